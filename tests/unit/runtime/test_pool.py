"""A pool never gives a place away twice, never forgets a run that waits, and serves in order."""

from __future__ import annotations

import random
from collections import Counter
from math import inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rayflow.config.schema import AdmissionConfig, BalancingConfig, EjectionConfig, PriorityConfig
from rayflow.messages import PoolDemand
from rayflow.policies.adaptive import AdaptiveLimit
from rayflow.policies.admission import Refusal
from rayflow.policies.balancing import Outcome, balancer
from rayflow.policies.balancing.factory import STRATEGIES
from rayflow.policies.ejection import Ejector
from rayflow.runtime.line import Line, Waiter
from rayflow.runtime.pool import FADE_S, Grant, Pool

RNG = random.Random(1)
EJECTION = EjectionConfig(consecutive_failures=2, base_s=10.0)
GOOD, BAD = Outcome(True, 0.1), Outcome(False, 0.01)


def pool(
    limit: int,
    queue: int,
    *replicas: str,
    strategy: Any = "least_busy",
    ejector: Ejector | None = None,
    adaptive: AdaptiveLimit | None = None,
) -> Pool:
    """Its line is first come, first served."""
    line = Line(AdmissionConfig(strategy="bounded"), PriorityConfig(enabled=False), queue, {})
    made = Pool(limit, balancer(BalancingConfig(strategy=strategy)), line, ejector, adaptive, name="a")
    made.members(replicas, 0.0, RNG)
    return made


def waiter(ticket: str, now: float = 0.0, deadline: float = inf) -> Waiter:
    return Waiter(ticket, now, deadline)


def take(made: Pool, ticket: str, now: float = 0.0, avoid: set[str] | None = None) -> Grant:
    granted = made.acquire(waiter(ticket, now), now, RNG, avoid or set())
    assert isinstance(granted, Grant)
    return granted


def test_places_are_given_until_every_replica_is_full() -> None:
    made = pool(2, 1, "a", "b")
    assert Counter(take(made, str(i)).replica for i in range(4)) == {"a": 2, "b": 2}
    assert made.acquire(waiter("5"), 0.0, RNG) == "queued"
    refusal = made.acquire(waiter("6"), 0.0, RNG)
    assert isinstance(refusal, Refusal) and refusal.reason == "full"


def test_who_waited_learns_how_long() -> None:
    made = pool(1, 5, "a")
    first = take(made, "first")
    made.acquire(waiter("second", 1.0), 1.0, RNG)
    assert made.release(first, 3.5, RNG) == [Grant("second", "a", 2.5)]


def test_an_empty_pool_queues_and_its_first_replica_serves_in_order() -> None:
    made = pool(2, 5)
    for ticket in "xyz":
        assert made.acquire(waiter(ticket), 0.0, RNG) == "queued"
    assert [grant.ticket for grant in made.members(["a"], 1.0, RNG)] == ["x", "y"]
    assert made.waiting == 1


def test_without_a_queue_a_full_pool_refuses() -> None:
    made = pool(1, 0, "a")
    take(made, "first")
    assert isinstance(made.acquire(waiter("second"), 0.0, RNG), Refusal)


def test_a_replica_that_left_with_calls_and_comes_back_is_still_that_busy() -> None:
    made = pool(1, 5, "a")
    first = take(made, "first")
    made.members([], 0.0, RNG)
    assert (made.size, made.in_flight) == (0, 1)
    made.members(["a"], 0.0, RNG)
    assert made.acquire(waiter("second"), 0.0, RNG) == "queued"
    assert made.release(first, 0.0, RNG) == [Grant("second", "a", 0.0)]


def test_a_call_on_a_replica_that_is_gone_is_released_without_effect_on_others() -> None:
    made = pool(1, 5, "a")
    first = take(made, "first")
    made.members(["b"], 0.0, RNG)
    made.release(first, 0.0, RNG)
    assert made.in_flight == 0
    made.validate()


def test_a_replica_to_avoid_is_taken_only_where_no_other_has_room() -> None:
    made = pool(1, 5, "a", "b")
    assert take(made, "first", avoid={"a"}) == Grant("first", "b", 0.0)
    assert take(made, "second", avoid={"a"}) == Grant("second", "a", 0.0)
    assert made.acquire(waiter("third"), 0.0, RNG, {"a"}) == "queued"


def test_a_place_is_released_once() -> None:
    made = pool(2, 5, "a")
    first, _ = take(made, "first"), take(made, "second")
    made.release(first, 0.0, RNG)
    with pytest.raises(KeyError):
        made.release(first, 0.0, RNG)
    made.validate()


def test_who_gave_up_or_whose_time_is_up_is_not_served_and_keeps_nobody_waiting() -> None:
    made = pool(1, 5, "a")
    first = take(made, "first")
    made.acquire(waiter("gives up"), 0.0, RNG)
    made.acquire(waiter("late", deadline=2.0), 0.0, RNG)
    made.acquire(waiter("patient"), 0.0, RNG)
    made.abandon("gives up")
    assert made.release(first, 3.0, RNG) == [Grant("patient", "a", 3.0)]
    assert [late.ticket for late in made.expire(3.0)] == ["late"]


def test_a_place_is_not_kept_for_those_whose_time_is_up() -> None:
    made = pool(1, 5, "a")
    first = take(made, "first")
    made.acquire(waiter("late", deadline=2.0), 0.0, RNG)
    assert made.release(first, 3.0, RNG) == []
    assert take(made, "next", now=3.0).replica == "a"


def test_weights_and_numbers_follow_from_addresses() -> None:
    line = Line(AdmissionConfig(), PriorityConfig(), 5, {})
    made = Pool(1, balancer(BalancingConfig(strategy="weighted")), line, weights=(3.0, 1.0))
    made.members(["agent/a/2", "agent/a/1", "agent/a/10", "agent/a/0"], 0.0, RNG)
    assert [(r.address, r.index, r.weight) for r in made._open] == [
        ("agent/a/0", 0, 3.0), ("agent/a/1", 1, 1.0), ("agent/a/2", 2, 3.0), ("agent/a/10", 10, 3.0)
    ]  # fmt: skip


# --- several routers ---


def test_calls_of_other_routers_are_heard_of_with_replies_and_count_until_they_fade() -> None:
    made = pool(10, 5, "a", "b")
    heard = take(made, "1", avoid={"b"})
    made.release(heard, 0.0, RNG, Outcome(True, 0.1, in_flight=5))
    assert {take(made, f"2.{i}", now=0.1).replica for i in range(3)} == {"b"}
    later = [take(made, f"3.{i}", now=0.1 + FADE_S * (i + 1)) for i in range(4)]
    assert "a" in {grant.replica for grant in later}
    made.validate()


def test_its_own_calls_are_not_counted_twice() -> None:
    made = pool(10, 5, "a", "b")
    grants = [take(made, str(i), avoid={"b"}) for i in range(3)]
    made.release(grants[0], 0.0, RNG, Outcome(True, 0.1, in_flight=3))
    assert made._members["a"].load == 2


# --- failing replicas ---


def test_a_replica_that_fails_fast_does_not_draw_the_calls() -> None:
    made = pool(8, 5, "a", "b", ejector=Ejector(EJECTION))
    taken = Counter[str]()
    for call in range(50):
        grant = take(made, str(call), now=0.01 * call)
        taken[grant.replica] += 1
        made.release(grant, 0.01 * call, RNG, BAD if grant.replica == "a" else GOOD)
    assert taken["a"] == EJECTION.consecutive_failures


def test_an_ejected_replica_is_tried_by_one_call_and_taken_again_when_that_succeeds() -> None:
    made = pool(8, 5, "a", "b", ejector=Ejector(EJECTION))
    for call in range(2):
        made.release(take(made, str(call), avoid={"b"}), 0.0, RNG, BAD)
    made.release(take(made, "fine"), 1.0, RNG, GOOD)
    grants = [take(made, f"more {i}", now=10.0) for i in range(4)]
    assert [grant.replica for grant in grants] == ["a", "b", "b", "b"], "the first is the probe"
    made.release(grants[0], 11.0, RNG, GOOD)
    assert take(made, "then", now=11.0).replica == "a"
    made.validate()


def test_a_request_that_was_wrong_itself_ejects_nobody() -> None:
    made = pool(8, 5, "a", "b", ejector=Ejector(EJECTION))
    for call in range(20):
        made.release(take(made, str(call), avoid={"b"}), 0.0, RNG, None)
    assert take(made, "next", avoid={"b"}).replica == "a"


def test_the_only_replica_is_never_ejected() -> None:
    made = pool(8, 5, "a", ejector=Ejector(EJECTION))
    for call in range(20):
        made.release(take(made, str(call)), 0.0, RNG, BAD)


def test_who_waits_is_served_by_the_replica_that_came_back() -> None:
    made = pool(1, 5, "a", "b", ejector=Ejector(EJECTION))
    for call in range(2):
        made.release(take(made, str(call), avoid={"b"}), 0.0, RNG, BAD)
    made.release(take(made, "fine"), 1.0, RNG, GOOD)
    take(made, "holds b")
    probe = take(made, "probe", now=10.0)
    assert made.acquire(waiter("waits", 10.0), 10.0, RNG) == "queued"
    assert made.release(probe, 11.0, RNG, GOOD) == [Grant("waits", "a", 1.0)]


# --- limits below the replicas' own ---


def test_an_adaptive_limit_holds_calls_back_though_replicas_have_room() -> None:
    adaptive = AdaptiveLimit(AdmissionConfig(adaptive=True, min_limit=2))
    adaptive._limit = 2
    made = pool(8, 5, "a", "b", adaptive=adaptive)
    first, _ = take(made, "1"), take(made, "2")
    assert made.acquire(waiter("3"), 0.0, RNG) == "queued"
    assert [grant.ticket for grant in made.release(first, 1.0, RNG, GOOD)] == ["3"]
    made.validate()


# --- demand ---


def test_demand_counts_calls_and_the_time_they_took_waiting_included() -> None:
    made = pool(1, 5, "a")
    first = take(made, "first", now=0.0)
    made.acquire(waiter("second", 1.0), 1.0, RNG)
    made.acquire(waiter("third", 2.0), 2.0, RNG)
    (second,) = made.release(first, 4.0, RNG, GOOD)
    made.release(second, 5.0, RNG, GOOD)
    assert made.demand(6.0) == PoolDemand("a", in_flight=1, arrived=3, finished=2, response_s=4.0 + 3.0 + 1.0)


def test_demand_tells_how_long_the_oldest_has_waited() -> None:
    made = pool(1, 5)
    made.acquire(waiter("first", 1.0), 1.0, RNG)
    assert made.demand(3.5) == PoolDemand("a", waiting=1, oldest_s=2.5, arrived=1)


def test_pressure_compares_pools_of_different_sizes() -> None:
    small, large, none = pool(2, 5, "a"), pool(2, 5, "a", "b"), pool(2, 5)
    for made in (small, large):
        take(made, "1")
    assert large.pressure == 0.25 < small.pressure == 0.5 < none.pressure == inf


# --- batch calls beside others ---


def classed(*replicas: str, ejector: Ejector | None = None) -> Pool:
    """Eight places at each replica, of which batch calls leave a quarter free."""
    line = Line(AdmissionConfig(strategy="bounded"), PriorityConfig(reserve=0.25), 100, {})
    made = Pool(8, balancer(BalancingConfig(strategy="least_busy")), line, ejector, name="a")
    made.members(replicas, 0.0, RNG)
    return made


def test_batch_calls_wait_at_free_places_that_others_may_need_and_get_them_when_these_are_gone() -> None:
    made = classed("a/0")
    person = made.acquire(Waiter("i", 0.0, inf, level=2.25), 0.0, RNG)
    batch = [made.acquire(Waiter(f"b{n}", 0.0, inf, level=0.25), 0.0, RNG) for n in range(7)]
    assert [isinstance(answer, Grant) for answer in batch] == [True] * 5 + [False] * 2
    assert isinstance(made.acquire(Waiter("j", 1.0, inf, level=2.25), 1.0, RNG), Grant), "it passes those that wait"
    assert isinstance(person, Grant)
    assert made.release(person, 2.0, RNG, GOOD) == []
    first = batch[0]
    assert isinstance(first, Grant)
    assert [grant.ticket for grant in made.release(first, 20.0, RNG, GOOD)] == ["b5", "b6"]
    made.validate()


def test_calls_that_hang_at_an_ejected_replica_take_no_places_from_batch_calls() -> None:
    made = classed("a/0", "a/1", ejector=Ejector(EJECTION))
    calls = [take(made, f"i{n}") for n in range(16)]
    bad = [call for call in calls if call.replica == "a/0"]
    for call in bad[:2]:
        made.release(call, 1.0, RNG, BAD)
    for call in calls:
        if call.replica == "a/1":
            made.release(call, 1.0, RNG, GOOD)
    assert made.in_flight == 6
    batch = [made.acquire(Waiter(f"b{n}", 1.0, inf, level=0.25), 1.0, RNG) for n in range(7)]
    assert [isinstance(answer, Grant) for answer in batch] == [True] * 6 + [False]


# --- whatever happens ---


class PoolMachine(RuleBasedStateMachine):
    """Runs come, end well or badly, and give up; replicas come, go and are ejected; time passes. The model is two
    lists: who calls whom, and who waits."""

    @initialize(strategy=st.sampled_from(sorted(STRATEGIES)), ejecting=st.booleans())
    def begin(self, strategy: str, ejecting: bool) -> None:
        self.rng = random.Random(0)
        self.pool = pool(2, 3, strategy=strategy, ejector=Ejector(EJECTION) if ejecting else None)
        self.now = 0.0
        self.count = 0
        self.calls: dict[str, Grant] = {}
        self.line: list[str] = []
        self.members: set[str] = set()

    def served(self, grants: list[Grant]) -> None:
        for grant in grants:
            assert grant.ticket == self.line.pop(0), "the line is served in order"
            assert grant.waited_s >= 0
            self.got(grant)

    def got(self, grant: Grant) -> None:
        assert grant.replica in self.members
        self.calls[grant.ticket] = grant
        assert sum(other.replica == grant.replica for other in self.calls.values()) <= 2, "no place is given twice"

    @rule(avoid=st.sets(st.sampled_from("abc")), session=st.sampled_from(["", "s1", "s2"]))
    def come(self, avoid: set[str], session: str) -> None:
        self.count += 1
        ticket = str(self.count)
        match self.pool.acquire(Waiter(ticket, self.now, inf, key=session), self.now, self.rng, avoid):
            case "queued":
                self.line.append(ticket)
            case Refusal():
                assert len(self.line) == 3
            case Grant() as grant:
                assert not self.line, "nobody overtakes the line"
                self.got(grant)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), ok=st.sampled_from([True, False, False, None]), others=st.sampled_from([None, 0, 7]))
    def end(self, data: st.DataObject, ok: bool | None, others: int | None) -> None:
        grant = self.calls.pop(data.draw(st.sampled_from(sorted(self.calls))))
        outcome = None if ok is None else Outcome(ok, 0.5, 0.1, others)
        self.served(self.pool.release(grant, self.now, self.rng, outcome))

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.line))
        self.line.remove(ticket)
        self.pool.abandon(ticket)

    @rule(seconds=st.sampled_from([0.3, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        late = [waiter.ticket for waiter in self.pool.expire(self.now)]
        self.line = [ticket for ticket in self.line if ticket not in late]

    @rule(replicas=st.sets(st.sampled_from("abc")))
    def change(self, replicas: set[str]) -> None:
        self.members = replicas
        self.served(self.pool.members(replicas, self.now, self.rng))
        assert self.pool.size == len(replicas)

    @invariant()
    def holds(self) -> None:
        self.pool.validate()
        assert self.pool.waiting == len(self.line)
        assert self.pool.in_flight == len(self.calls)
        totals = self.pool.demand(self.now)
        assert (totals.arrived, totals.finished) == (self.count, totals.finished)

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        while self.calls:
            self.served(self.pool.release(self.calls.pop(min(self.calls)), self.now, self.rng, GOOD))
        assert not self.line or not self.members, "who waits is served while there is anybody"


class ClassedPoolMachine(PoolMachine):
    """The same with batch calls among others, which may overtake them."""

    @initialize(strategy=st.just("least_busy"), ejecting=st.booleans())
    def begin(self, strategy: str, ejecting: bool) -> None:
        super().begin(strategy, ejecting)
        self.pool = classed(ejector=Ejector(EJECTION) if ejecting else None)
        self.pool.max_in_flight = 2
        self.batch: set[str] = set()

    def served(self, grants: list[Grant]) -> None:
        for grant in grants:
            self.line.remove(grant.ticket)
            self.got(grant)

    @rule(avoid=st.sets(st.sampled_from("abc")), batch=st.booleans())
    def come(self, avoid: set[str], batch: bool) -> None:
        self.count += 1
        ticket = str(self.count)
        if batch:
            self.batch.add(ticket)
        waiter = Waiter(ticket, self.now, inf, level=0.25 if batch else 2.25)
        match self.pool.acquire(waiter, self.now, self.rng, avoid):
            case "queued":
                self.line.append(ticket)
            case Grant() as grant:
                assert batch <= (not self.line), "only others overtake"
                assert self.batch.issuperset(self.line) or batch, "but not one another"
                self.got(grant)


TestClassedPoolMachine = ClassedPoolMachine.TestCase
TestClassedPoolMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
