"""When a second replica is asked for an answer that takes unusually long.

The wait is a quantile of what the last responses took, so at the 0.95 quantile about one call in twenty is made twice
and the rest cost nothing. A model's own slowness is in the quantile, too: only replicas that are slow *beside the
others* are hedged against. Every second call comes out of the retry budget.
Source: J. Dean and L. Barroso, "The Tail at Scale", CACM 2013.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from rayflow.config.schema import HedgingConfig

REMEMBERED = 200
"""Responses that the quantile is taken of."""


class Hedging:
    """The responses of one model, and the wait they suggest."""

    __slots__ = ("_config", "_recent", "_sorted")

    def __init__(self, config: HedgingConfig) -> None:
        self._config = config
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def observed(self, took_s: float) -> None:
        """A whole answer took so long."""
        if not self._config.enabled:
            return
        if len(self._recent) == REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(took_s)
        insort(self._sorted, took_s)

    def wait_s(self) -> float | None:
        """Seconds after which a second call is worth its money; None while there is none to make."""
        known = len(self._sorted)
        if not self._config.enabled or known < self._config.min_calls:
            return None
        return self._sorted[min(int(self._config.quantile * known), known - 1)]
