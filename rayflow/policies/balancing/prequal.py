"""Hot replicas are avoided by their calls in flight, cold ones chosen by their latency.

A replica with more calls than `hot_quantile` of the pool is hot: where calls pile up, latency explodes, whatever it was
a moment ago. Among the cold ones it is the other way round: a few calls more or less mean little, and the one that
answers quickest with as many calls as it has now is best. If all are hot, the fewest calls win. A handful of replicas
is looked at, as chance names them; what is known of them came with their replies.

Source: Wydrowski, Kleinberg, Rumble, Archer, "Load is not what you should balance: Introducing Prequal", NSDI 2024.
Different from there: probes are not sent, and latencies up to `ALIKE` times the best one are taken as the same, of
which the fewest calls win; a call that is out for long counts as a slow one before it is answered.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from math import exp, inf

from rayflow.policies.balancing.base import LOAD, Balancer, Outcome, Replica
from rayflow.policies.balancing.by_load import any_of
from rayflow.policies.balancing.latency import ALIKE, FirstToken

PROBES = 5
REMEMBERED = 128
"""Loads by which hot and cold are told apart."""
LEVELS = 16
"""Latency is kept for 0, 1, 2 to 3, 4 to 7 ... calls in flight."""
SMOOTHING = 0.3


class Levels:
    """Latency of one replica by the number of calls that a call met there."""

    __slots__ = ("_at", "_latest", "_seconds")

    def __init__(self) -> None:
        self._seconds = [0.0] * LEVELS
        self._at = [-inf] * LEVELS
        self._latest = 0

    def observe(self, seconds: float, met: int, now: float, decay_s: float) -> None:
        level = self._latest = _level(met)
        gain = max(SMOOTHING, 1.0 - exp((self._at[level] - now) / decay_s))
        self._seconds[level] += gain * (seconds - self._seconds[level])
        self._at[level] = now

    def value(self, load: int, idle: bool, now: float, decay_s: float) -> float:
        """With about this load, or, where nothing recent is known of that, the latest one. It fades while the replica
        is idle."""
        level = _level(load)
        if now - self._at[level] > decay_s:
            level = self._latest
        seconds = self._seconds[level]
        return seconds * exp((self._at[level] - now) / decay_s) if idle else seconds


class Prequal(Balancer):
    """`hot_quantile`: of the loads in the pool. `decay_s`: after so long, an observation counts only 1/e."""

    def __init__(self, hot_quantile: float, decay_s: float) -> None:
        self._quantile = hot_quantile
        self._decay_s = decay_s
        self._scale = FirstToken()
        self._known: dict[Replica, Levels] = {}
        self._loads: deque[int] = deque()
        self._sorted: list[int] = []

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        probes = rng.sample(replicas, PROBES) if len(replicas) > PROBES else replicas
        hot = self._hot_above(any_of(probes, rng).load)
        cold = [replica for replica in probes if replica.load <= hot]
        if cold:
            estimates = [self._estimate_s(replica, now) for replica in cold]
            alike = ALIKE * min(filter(None, estimates), default=1.0)
            probes = [replica for replica, estimate in zip(cold, estimates, strict=True) if estimate <= alike]
        lowest = min(map(LOAD, probes))
        return any_of([replica for replica in probes if replica.load == lowest], rng)

    def members(self, replicas: Sequence[Replica]) -> None:
        self._known = {replica: self._known[replica] for replica in replicas if replica in self._known}

    def ended(self, replica: Replica, outcome: Outcome, met: int, now: float) -> None:
        if not outcome.ok:
            return  # a failure may be quick, and says nothing of how long an answer takes
        known = self._known.get(replica)
        if known is None:
            known = self._known[replica] = Levels()
        known.observe(self._scale.of(outcome), met, now, self._decay_s)

    def _hot_above(self, load: int) -> int:
        """The quantile of the last loads that were seen, this one included."""
        insort(self._sorted, load)
        self._loads.append(load)
        if len(self._loads) > REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._loads.popleft())]
        return self._sorted[int(self._quantile * (len(self._sorted) - 1))]

    def _estimate_s(self, replica: Replica, now: float) -> float:
        """0 where nothing is known."""
        known = self._known.get(replica)
        seen_s = known.value(replica.load, not replica.in_flight, now, self._decay_s) if known is not None else 0.0
        return max(seen_s, replica.oldest_s(now) * self._scale.part)


def _level(calls: int) -> int:
    return min(calls.bit_length(), LEVELS - 1)
