"""How many calls a pool does well with at a time, found from its latency.

Beyond what a pool can really work on side by side, another call in flight only makes all of them slower. So the limit
follows the ratio of the best latency to the present one: while calls take no longer than `tolerance` times the best,
there is room to try one more; the longer they take, the smaller the limit becomes, by at most a half at a time. A
square root of slack lets it find out.

The best latency is a memory, and memories grow old: a model may have become slower for good. Where no more than the
smallest limit is in flight, calls do not slow each other down, and what is measured then is the latency at its best by
definition. The memory is adjusted there, and only there, because a best that was relearnt under load would drift up
with the very queue it should reveal. Where load never falls so low while calls take too long, it is made to now and
then, for one measurement.
Source: Netflix concurrency-limits, `GradientLimit`; N. Cardwell et al., "BBR", ACM Queue 2016 (ProbeRTT).
"""

from __future__ import annotations

import math

from rayflow.config.schema import AdmissionConfig

FEWEST_CALLS = 10
"""Calls whose mean latency makes one measurement; more where the limit is higher, so that one is about one round."""
MOST_CALLS = 100
SMOOTHING = 0.2
"""Weight of a new limit against the old one."""
FAILED = 0.9
"""What is left of the limit after a round in which half of the calls failed."""
RELEARNT = 0.2
"""Weight of a latency measured at low load against the best one remembered."""
PROBE_ROUNDS = 100
"""Rounds in a row in which calls took longer than tolerated, after which the best latency is measured anew."""


class AdaptiveLimit:
    """One pool's limit. It begins at the pool's ceiling."""

    __slots__ = (
        "_best_s",
        "_calls",
        "_ceiling",
        "_failed",
        "_in_flight",
        "_limit",
        "_min",
        "_probing",
        "_slow_rounds",
        "_sum_s",
        "_tolerance",
    )

    def __init__(self, config: AdmissionConfig) -> None:
        self._min = config.min_limit
        self._tolerance = config.tolerance
        self._limit = math.inf
        self._ceiling = config.min_limit
        self._best_s = math.inf
        self._slow_rounds = 0
        self._probing = False
        self._calls = 0
        self._failed = 0
        self._sum_s = 0.0
        self._in_flight = 0

    def limit(self, ceiling: int) -> int:
        """Calls that may be in flight now. `ceiling`: how many the replicas admit. Never below `min_limit`, where the
        ceiling is not."""
        self._ceiling = ceiling
        if self._probing:
            return min(ceiling, self._min)
        return min(ceiling, max(self._min, ceiling if self._limit > ceiling else int(self._limit)))

    def ended(self, latency_s: float, in_flight: int, ok: bool, now: float) -> None:
        """A call ended. `in_flight`: calls of the pool while it was at work, itself included. A failed call says
        nothing of the latency."""
        if self._probing and in_flight > self._min:
            return  # it began before
        self._in_flight = max(self._in_flight, in_flight)
        if ok:
            self._calls += 1
            self._sum_s += latency_s
        else:
            self._failed += 1
        if self._calls + self._failed >= min(max(FEWEST_CALLS, self.limit(self._ceiling)), MOST_CALLS):
            self._measured()
            self._reset()

    def _measured(self) -> None:
        limit = min(self._limit, self._ceiling)
        if self._failed >= self._calls:
            self._probing = False
            self._set(limit * FAILED)
            return
        latency_s = max(self._sum_s / self._calls, 1e-6)
        if self._probing:
            self._probing, self._slow_rounds, self._best_s = False, 0, latency_s
            return
        if self._in_flight <= self._min and self._best_s < math.inf:
            self._best_s += RELEARNT * (latency_s - self._best_s)
        self._best_s = min(self._best_s, latency_s)
        gradient = min(1.0, max(0.5, self._tolerance * self._best_s / latency_s))
        self._slow_rounds = self._slow_rounds + 1 if gradient < 1.0 else 0
        self._probing = self._slow_rounds >= PROBE_ROUNDS
        wanted = limit * gradient + math.sqrt(limit)
        if wanted > limit and self._in_flight < limit / 2:
            return  # so few in flight prove nothing about more
        self._set(limit + SMOOTHING * (wanted - limit))

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, self._min), max(self._ceiling, self._min))

    def _reset(self) -> None:
        self._calls = 0
        self._failed = 0
        self._sum_s = 0.0
        self._in_flight = 0
