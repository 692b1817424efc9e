"""Each replica gets calls by its weight, smoothly: with weights 3 and 1, every fourth call goes to the second one.

Every call moves its replica on by 1/weight, and the one that is furthest behind is next (stride scheduling). A replica
that takes longer for its calls than others would pile them up that way. So nobody is taken who is busier for its weight
already than another one would be with this call.
Source: C. Waldspurger, W. Weihl, "Stride Scheduling", 1995; nginx, smooth weighted round robin.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from rayflow.policies.balancing.base import Balancer, Replica
from rayflow.policies.balancing.by_load import any_of

LOOKED_AT = 32
"""In a larger pool so many are weighed, as chance names them."""


class Weighted(Balancer):
    """By `Replica.weight`."""

    def __init__(self) -> None:
        self._passed: dict[Replica, float] = {}
        self._turn = 0.0
        """How far the last one had come that was taken: nobody saves up turns while it is away."""

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        if len(replicas) > LOOKED_AT:
            replicas = rng.sample(replicas, LOOKED_AT)
        bound = min((replica.load + 1) / replica.weight for replica in replicas)
        free = [replica for replica in replicas if replica.load / replica.weight <= bound]
        passed = [max(self._passed.get(replica, 0.0), self._turn) for replica in free]
        self._turn = least = min(passed)
        ties = [replica for replica, so_far in zip(free, passed, strict=True) if so_far == least]
        chosen = any_of(ties, rng)
        self._passed[chosen] = least + 1.0 / chosen.weight
        return chosen

    def members(self, replicas: Sequence[Replica]) -> None:
        self._passed = {replica: self._passed[replica] for replica in replicas if replica in self._passed}
