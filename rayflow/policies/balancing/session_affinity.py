"""A session stays with its replica, where the model's cache of the conversation is warm; but not at any price.

Replicas stand on a ring at many points each; a session belongs to the first one after its own point. When a replica
comes or goes, only the sessions between its points and their predecessors move: one part in n. A replica that has
`balance_factor` times the mean load is passed over, and the session goes on to the next one on the ring for as long.
A call without a session goes to the least busy replica.
Source: D. Karger et al., "Consistent Hashing and Random Trees", 1997; V. Mirrokni, M. Thorup, M. Zadimoghaddam,
"Consistent Hashing with Bounded Loads", 2018.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from math import ceil
from struct import unpack

from rayflow.policies.balancing.base import INDEX, LOAD, Balancer, Replica
from rayflow.policies.balancing.by_load import LeastBusy

POINTS = 128
"""Points of each replica on the ring: the largest share is then about a quarter above the mean."""
STEPS = 64
"""So many replicas are passed over at most; then the least busy one takes the call."""


class SessionAffinity(Balancer):
    """`balance_factor`: load up to this many times the mean does not move a session."""

    def __init__(self, balance_factor: float) -> None:
        self._factor = balance_factor
        self._fallback = LeastBusy()
        self._members: Sequence[Replica] = ()
        self._points: list[int] = []
        self._owners: list[Replica] = []

    def members(self, replicas: Sequence[Replica]) -> None:
        self._members = tuple(replicas)
        ring = sorted((point, replica.address, replica) for replica in replicas for point in _points(replica.address))
        self._points = [point for point, _, _ in ring]
        self._owners = [replica for _, _, replica in ring]

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        if key:
            bound = ceil(self._factor * (sum(map(LOAD, self._members)) + 1) / len(self._members))
            for replica in self._after(key):
                if replica.load < bound and _among(replica, replicas):
                    return replica
        return self._fallback.choose(replicas, limit, now, rng, key)

    def _after(self, key: str) -> Iterator[Replica]:
        """The replicas from the session's point on, each once."""
        seen: set[Replica] = set()
        start = bisect_right(self._points, _digest(key)[0])
        for place in range(start, start + len(self._owners)):
            replica = self._owners[place % len(self._owners)]
            if replica not in seen:
                yield replica
                seen.add(replica)
                if len(seen) == STEPS:
                    break


def _points(address: str) -> Iterator[int]:
    for block in range(POINTS // 8):
        yield from _digest(f"{address}#{block}")


def _digest(text: str) -> tuple[int, ...]:
    """Eight numbers, the same in every process."""
    return unpack("<8Q", blake2b(text.encode()).digest())


def _among(replica: Replica, replicas: Sequence[Replica]) -> bool:
    place = bisect_left(replicas, replica.index, key=INDEX)
    return place < len(replicas) and replicas[place] is replica
