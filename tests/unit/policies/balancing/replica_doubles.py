"""Replicas as a pool would keep them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from rayflow.policies.balancing import Balancer, Outcome, Replica

LIMIT = 100


def replicas(*loads: int, weights: Sequence[float] = (1.0,)) -> list[Replica]:
    """One for each load; all loads are this router's own calls, begun at time 0."""
    made = []
    for index, load in enumerate(loads):
        replica = Replica(f"agent/a/{index}", index, weights[index % len(weights)])
        replica.in_flight = replica.load = load
        replica.calls = {f"{index}.{call}": (0.0, call) for call in range(load)}
        made.append(replica)
    return made


def answered(balancer: Balancer, replica: Replica, seconds: float, now: float, met: int = 0) -> None:
    balancer.ended(replica, Outcome(True, seconds), met, now)


def picks(
    balancer: Balancer, among: Sequence[Replica], times: int = 100, now: float = 0.0, seed: int = 1, key: str = ""
) -> Counter[int]:
    """How often each is chosen for calls that end at once."""
    rng = random.Random(seed)
    return Counter(balancer.choose(among, LIMIT, now, rng, key).index for _ in range(times))
