"""Strategies at work: sixteen modelled replicas, calls that come at random, a pool that learns from their answers.

Small checks that each mechanism does what it is for; how the strategies compare is measured by the simulator.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import pytest

from rayflow.config.schema import AdmissionConfig, BalancingConfig, EjectionConfig, PriorityConfig
from rayflow.policies.balancing import Outcome, balancer
from rayflow.policies.ejection import Ejector
from rayflow.runtime.line import Line, Waiter
from rayflow.runtime.pool import Grant, Pool

REPLICAS, SLOTS, SERVICE_S, RATE = 16, 2, 0.1, 160.0
"""Half of what the replicas can do."""
HEALTHY = 1.0
FAILS = 0.0
"""As a speed: calls fail at once."""


@dataclass
class World:
    """`slowness(replica, now)`: calls take so many times longer; 0: they fail at once."""

    strategy: Any
    slowness: Callable[[int, float], float] = lambda replica, now: HEALTHY
    seconds: float = 60.0
    seed: int = 1
    response_s: list[float] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)
    failed: int = 0

    def run(self) -> World:
        rng = random.Random(self.seed)
        line = Line(AdmissionConfig(strategy="bounded"), PriorityConfig(), 1000, {})
        pool = Pool(64, balancer(BalancingConfig(strategy=self.strategy)), line, Ejector(EjectionConfig()))
        pool.members([f"agent/a/{i}" for i in range(REPLICAS)], 0.0, rng)
        numbers = itertools.count()
        coming: list[tuple[float, int, Grant | None, float]] = [(0.0, next(numbers), None, 0.0)]
        busy, queues = Counter[int](), [deque[tuple[Grant, float]]() for _ in range(REPLICAS)]

        def work(grant: Grant, since: float, now: float) -> None:
            replica = int(grant.replica.rpartition("/")[2])
            slow = self.slowness(replica, now)
            if slow != FAILS and busy[replica] == SLOTS:
                queues[replica].append((grant, since))
                return
            busy[replica] += slow != FAILS
            service_s = rng.uniform(0.5, 1.5) * SERVICE_S * slow if slow != FAILS else 0.001
            heapq.heappush(coming, (now + service_s, next(numbers), grant, since))

        while coming:
            now, number, ended, since = heapq.heappop(coming)
            if ended is None:
                granted = pool.acquire(Waiter(str(number), now, inf), now, rng)
                assert isinstance(granted, Grant), "64 places each are never all taken"
                self.sent.append((now, int(granted.replica.rpartition("/")[2])))
                work(granted, now, now)
                if now < self.seconds:
                    heapq.heappush(coming, (now + rng.expovariate(RATE), next(numbers), None, 0.0))
                continue
            replica = int(ended.replica.rpartition("/")[2])
            ok = self.slowness(replica, since) != FAILS
            pool.release(ended, now, rng, Outcome(ok, now - since))
            self.failed += not ok
            if ok:
                busy[replica] -= 1
                self.response_s.append(now - since)
                if queues[replica]:
                    work(*queues[replica].popleft(), now)
        pool.validate()
        assert pool.in_flight == 0
        return self

    def quantile(self, share: float) -> float:
        return sorted(self.response_s)[int(share * len(self.response_s))]

    def share(self, replica: int, since: float = 0.0, until: float = inf) -> float:
        """Part of the calls between these moments that this replica got."""
        sent = [to for now, to in self.sent if since <= now < until]
        return sent.count(replica) / len(sent)


def two_slow(replica: int, now: float) -> float:
    return 16.0 if replica < 2 else HEALTHY


@pytest.mark.parametrize("strategy", ["fastest_response", "prequal"])
def test_two_slow_replicas_of_sixteen_hardly_matter(strategy: str) -> None:
    by_latency, by_load = World(strategy, two_slow).run(), World("power_of_two", two_slow).run()
    assert by_latency.quantile(0.99) <= by_load.quantile(0.99) / 3


@pytest.mark.parametrize("strategy", ["least_busy", "fastest_response", "prequal", "power_of_two", "weighted"])
def test_equal_replicas_get_equal_shares(strategy: str) -> None:
    world = World(strategy).run()
    assert all(abs(world.share(replica) - 1 / REPLICAS) < 0.02 for replica in range(REPLICAS))
    assert world.quantile(0.99) < 2 * 1.5 * SERVICE_S


@pytest.mark.parametrize("strategy", ["fastest_response", "prequal"])
def test_a_replica_that_slows_is_left_within_a_second_and_taken_again_when_it_has_healed(strategy: str) -> None:
    def slows(replica: int, now: float) -> float:
        return 16.0 if replica == 0 and 10.0 <= now < 30.0 else HEALTHY

    world = World(strategy, slows).run()
    assert world.share(0, 5, 10) > 0.04
    assert world.share(0, 11, 30) < 0.01
    assert world.share(0, 50, 60) > 0.04


@pytest.mark.parametrize("strategy", ["least_busy", "fastest_response"])
def test_a_replica_that_fails_at_once_gets_no_more_than_a_few_calls(strategy: str) -> None:
    world = World(strategy, lambda replica, now: FAILS if replica == 0 else HEALTHY).run()
    fair_share = len(world.sent) / REPLICAS
    assert 5 <= world.failed <= fair_share / 10


def test_a_run_repeats_with_its_seed() -> None:
    assert World("prequal", seconds=5).run().sent == World("prequal", seconds=5).run().sent
    assert World("prequal", seconds=5).run().sent != World("prequal", seconds=5, seed=2).run().sent
