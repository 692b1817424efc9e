"""Strategies that look at nothing but the number of calls, or not even at that.

`PowerOfTwo`: the less busy one of two that chance names is nearly as good as the least busy of all, costs the same in
a pool of any size, and keeps routers that see the same state from all running to the same replica.
Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 1996.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence

from rayflow.policies.balancing.base import INDEX, LOAD, Balancer, Replica


def any_of(replicas: Sequence[Replica], rng: random.Random) -> Replica:
    """One of them by chance. (`rng.choice` costs five times as much.)"""
    return replicas[int(rng.random() * len(replicas))]


class LeastBusy(Balancer):
    """The replica with the fewest calls; a random one of several."""

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        lowest = min(map(LOAD, replicas))
        return any_of([replica for replica in replicas if replica.load == lowest], rng)


class Random(Balancer):
    """Any replica."""

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        return any_of(replicas, rng)


class RoundRobin(Balancer):
    """Each replica in turn. It begins anywhere, so that several routers do not march in step."""

    def __init__(self) -> None:
        self._last: int | None = None

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        if self._last is None:
            self._last = any_of(replicas, rng).index
        following = bisect_right(replicas, self._last, key=INDEX)
        chosen = replicas[following] if following < len(replicas) else replicas[0]
        self._last = chosen.index
        return chosen


class PowerOfTwo(Balancer):
    """The less busy one of two different replicas that chance names."""

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        size = len(replicas)
        if size == 1:
            return replicas[0]
        first = int(rng.random() * size)
        second = int(rng.random() * (size - 1))
        one, other = replicas[first], replicas[second + (second >= first)]
        return one if one.load <= other.load else other
