from __future__ import annotations

import random

from rayflow.simulation.engine import Engine
from rayflow.simulation.fleet import Fleet
from rayflow.simulation.request import Request
from rayflow.simulation.servers import Independent, Server


class Pool:
    """A fleet whose replicas take 3 s to start."""

    def __init__(self, replicas: int, spares: int = 0) -> None:
        self.engine = Engine()
        self.rotations: list[tuple[float, list[int]]] = []
        self.fleet = Fleet(self.engine, self._built, self._changed, lambda: 3.0, spares)
        self.fleet.open(replicas)

    def _built(self, index: int) -> Server:
        return Independent(index, self.engine, random.Random(1), lambda call, ok: None)

    def _changed(self) -> None:
        self.rotations.append((self.engine.now, list(self.fleet.rotation)))


def test_a_replica_serves_once_it_has_started() -> None:
    pool = Pool(1)
    pool.engine.at(1.0, pool.fleet.order, 3)
    pool.engine.run()
    assert pool.rotations == [(0.0, [0]), (4.0, [0, 1]), (4.0, [0, 1, 2])]


def test_a_warm_spare_is_in_the_rotation_at_once_and_is_replaced() -> None:
    pool = Pool(1, spares=1)
    pool.engine.at(1.0, pool.fleet.order, 2)
    pool.engine.run()
    assert pool.rotations == [(0.0, [0]), (1.0, [0, 1])]
    assert pool.fleet.processes == 3


def test_who_is_starting_is_dismissed_first_then_spares_then_the_highest_number() -> None:
    pool = Pool(2, spares=1)
    pool.engine.at(1.0, pool.fleet.order, 3)
    pool.engine.at(2.0, pool.fleet.order, 2)
    pool.engine.at(9.0, pool.fleet.order, 1)
    pool.engine.run()
    assert pool.rotations == [(0.0, [0, 1]), (1.0, [0, 1, 2]), (2.0, [0, 1]), (9.0, [0])]
    assert pool.fleet.processes == 2


def test_a_replica_is_paid_for_from_its_order_until_its_last_call_has_ended() -> None:
    pool = Pool(2)
    leaving = pool.fleet.rotation[1]
    call = Request("a", 0.0, 99.0, 0, 2.0, "", "a", 1, 5.0, 5.0, 0)
    leaving.begin(call)
    pool.engine.at(1.0, pool.fleet.order, 1)
    pool.engine.at(5.0, lambda: pool.fleet.idle(leaving))
    pool.engine.at(6.0, pool.fleet.order, 2)
    pool.engine.run(until=10.0)
    assert pool.fleet.replica_seconds() == 10.0 + 5.0 + 4.0


def test_a_number_is_not_given_again_while_its_replica_drains() -> None:
    pool = Pool(2)
    leaving = pool.fleet.rotation[1]
    leaving.begin(Request("a", 0.0, 99.0, 0, 2.0, "", "a", 1, 9.0, 9.0, 0))
    pool.engine.at(1.0, pool.fleet.order, 1)
    pool.engine.at(2.0, pool.fleet.order, 2)
    pool.engine.run(until=8.0)
    assert list(pool.fleet.rotation) == [0, 2]
    assert pool.fleet.peak == 3
