"""The replica that will probably answer first: estimated time to the first token, times calls that share the replica.

The estimate is a peak-EWMA, so a replica that becomes slow is avoided after its first slow answer; and sooner: a call
that is out for longer than the estimate is evidence, too, long before it is answered. While a replica is idle its
estimate fades with `decay_s`, until it is tried again, by one call.

Estimates up to `ALIKE` times that of the better replicas count as theirs: between equals, the least busy one wins.
Source: Finagle, `PeakEwma` (cost = estimate x (pending + 1)).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from rayflow.policies.balancing.base import Balancer, Outcome, Replica
from rayflow.policies.balancing.by_load import any_of
from rayflow.policies.balancing.latency import ALIKE, FirstToken, PeakEwma

LOOKED_AT = 16
"""In a larger pool so many are weighed, as chance names them."""


class FastestResponse(Balancer):
    """`decay_s`: after so long, an observation counts only 1/e."""

    def __init__(self, decay_s: float) -> None:
        self._decay_s = decay_s
        self._scale = FirstToken()
        self._known: dict[Replica, PeakEwma] = {}

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        if len(replicas) > LOOKED_AT:
            replicas = rng.sample(replicas, LOOKED_AT)
        estimates = [self._estimate_s(replica, now) for replica in replicas]
        known = sorted(filter(None, estimates))
        usual = known[len(known) // 4] if known else 1.0
        costs = [
            (estimate if estimate > ALIKE * usual else usual) * (replica.load + 1)
            for replica, estimate in zip(replicas, estimates, strict=True)
        ]
        lowest = min(costs)
        return any_of([replica for replica, cost in zip(replicas, costs, strict=True) if cost == lowest], rng)

    def members(self, replicas: Sequence[Replica]) -> None:
        self._known = {replica: self._known[replica] for replica in replicas if replica in self._known}

    def ended(self, replica: Replica, outcome: Outcome, met: int, now: float) -> None:
        if not outcome.ok:
            return  # a failure may be quick, and says nothing of how long an answer takes
        first_s = self._scale.of(outcome)
        known = self._known.get(replica)
        if known is None:
            self._known[replica] = PeakEwma(first_s, now)
        else:
            known.observe(first_s, now, self._decay_s)

    def _estimate_s(self, replica: Replica, now: float) -> float:
        """0 where nothing is known."""
        known = self._known.get(replica)
        if known is None:
            return replica.oldest_s(now) * self._scale.part
        if replica.in_flight:
            return max(known.seconds, replica.oldest_s(now) * self._scale.part)
        return known.faded(now, self._decay_s)
