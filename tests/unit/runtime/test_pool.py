"""A pool never gives a place away twice, never forgets a run that waits, and serves in order."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rayflow.runtime.pool import Grant, Pool

RNG = random.Random(1)


def test_places_are_given_until_every_replica_is_full() -> None:
    pool = Pool(max_in_flight=2, max_queue=1)
    pool.members(["a", "b"], 0.0, RNG)
    grants = [pool.acquire(str(i), 0.0, RNG) for i in range(4)]
    assert Counter(grant.replica for grant in grants if isinstance(grant, Grant)) == {"a": 2, "b": 2}
    assert pool.acquire("5", 0.0, RNG) == "queued"
    assert pool.acquire("6", 0.0, RNG) == "refused"


def test_who_waited_learns_how_long() -> None:
    pool = Pool(1, 5)
    pool.members(["a"], 0.0, RNG)
    pool.acquire("first", 0.0, RNG)
    pool.acquire("second", 1.0, RNG)
    assert pool.release("a", 3.5, RNG) == [Grant("second", "a", 2.5)]


def test_an_empty_pool_queues_and_its_first_replica_serves_in_order() -> None:
    pool = Pool(2, 5)
    for ticket in "xyz":
        assert pool.acquire(ticket, 0.0, RNG) == "queued"
    assert [grant.ticket for grant in pool.members(["a"], 1.0, RNG)] == ["x", "y"]
    assert pool.waiting == 1


def test_without_a_queue_a_full_pool_refuses() -> None:
    pool = Pool(1, 0)
    pool.members(["a"], 0.0, RNG)
    pool.acquire("first", 0.0, RNG)
    assert pool.acquire("second", 0.0, RNG) == "refused"


def test_a_replica_that_left_with_calls_and_comes_back_is_still_that_busy() -> None:
    pool = Pool(1, 5)
    pool.members(["a"], 0.0, RNG)
    pool.acquire("first", 0.0, RNG)
    pool.members([], 0.0, RNG)
    assert (pool.size, pool.in_flight) == (0, 1)
    pool.members(["a"], 0.0, RNG)
    assert pool.acquire("second", 0.0, RNG) == "queued"
    assert pool.release("a", 0.0, RNG) == [Grant("second", "a", 0.0)]


def test_a_call_on_a_replica_that_is_gone_is_released_without_effect_on_others() -> None:
    pool = Pool(1, 5)
    pool.members(["a"], 0.0, RNG)
    pool.acquire("first", 0.0, RNG)
    pool.members(["b"], 0.0, RNG)
    pool.release("a", 0.0, RNG)
    assert pool.in_flight == 0
    pool.validate()


def test_a_replica_to_avoid_is_taken_only_where_no_other_has_room() -> None:
    pool = Pool(1, 5)
    pool.members(["a", "b"], 0.0, RNG)
    assert pool.acquire("first", 0.0, RNG, {"a"}) == Grant("first", "b", 0.0)
    assert pool.acquire("second", 0.0, RNG, {"a"}) == Grant("second", "a", 0.0)
    assert pool.acquire("third", 0.0, RNG, {"a"}) == "queued"


class PoolMachine(RuleBasedStateMachine):
    """Runs come, end, and give up; replicas come and go. The model is two lists: who calls whom, and who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(0)
        self.pool = Pool(max_in_flight=2, max_queue=3)
        self.now = 0.0
        self.count = 0
        self.calls: dict[str, str] = {}
        self.line: list[str] = []

    def served(self, grants: list[Grant]) -> None:
        for grant in grants:
            assert grant.ticket == self.line.pop(0), "the line is served in order"
            assert grant.waited_s >= 0
            self.calls[grant.ticket] = grant.replica

    @rule()
    def come(self) -> None:
        self.count += 1
        ticket = str(self.count)
        match self.pool.acquire(ticket, self.now, self.rng):
            case "queued":
                self.line.append(ticket)
            case "refused":
                assert len(self.line) == 3
            case Grant() as grant:
                assert not self.line, "nobody overtakes the line"
                self.calls[ticket] = grant.replica

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.now += 1
        ticket = data.draw(st.sampled_from(sorted(self.calls)))
        self.served(self.pool.release(self.calls.pop(ticket), self.now, self.rng))

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.line))
        self.line.remove(ticket)
        self.pool.abandon(ticket)

    @rule(replicas=st.sets(st.sampled_from("abc")))
    def change(self, replicas: set[str]) -> None:
        self.now += 1
        self.served(self.pool.members(replicas, self.now, self.rng))
        assert self.pool.size == len(replicas)

    @invariant()
    def holds(self) -> None:
        self.pool.validate()
        assert self.pool.waiting == len(self.line)
        assert self.pool.in_flight == len(self.calls)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
