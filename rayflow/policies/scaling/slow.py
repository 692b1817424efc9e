"""More replicas when answers have become slow, whatever the queue says.

The mean response over the last window, from totals that only grow. It needs a few answers to mean anything. What was
added stays until responses are clearly fast again, or the pool would grow and shrink in turns.
"""

from __future__ import annotations

from collections import deque
from math import ceil, inf

from rayflow.config.schema import ScalingConfig
from rayflow.policies.scaling.load import Load

ENOUGH = 5
"""So many answers in the window are needed to judge."""
HEALED = 0.7
"""Fast again: below this share of the limit."""


class SlowResponses:
    def __init__(self, config: ScalingConfig) -> None:
        self._limit_s = (config.slow_response_ms or inf) / 1000
        self._factor = config.slow_factor
        self._window_s = config.stable_window_s
        self._totals: deque[tuple[float, int, float]] = deque()
        self._grown = -inf
        self.floor = 0
        """Replicas that slow responses have asked for."""
        self.mean_s = 0.0

    def look(self, load: Load, now: float) -> int:
        """The floor from now on; 0: none."""
        if self._limit_s == inf:
            return 0
        totals = self._totals
        totals.append((now, load.finished, load.response_s))
        while len(totals) > 1 and totals[1][0] <= now - self._window_s:
            totals.popleft()
        _, finished, response_s = totals[0]
        answers = load.finished - finished
        if answers >= ENOUGH:
            self._judge((load.response_s - response_s) / answers, load, now)
        elif answers == 0 and load.concurrency == 0:
            self.floor = 0
        return self.floor

    def _judge(self, mean_s: float, load: Load, now: float) -> None:
        self.mean_s = mean_s
        if mean_s > self._limit_s and now - self._grown >= self._window_s:
            self.floor = ceil(load.size * self._factor)
            self._grown = now
        elif mean_s < HEALED * self._limit_s:
            self.floor = 0
