"""Failing replicas go, come back by single probes, stay away longer each time, and never go all at once."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rayflow.config.schema import EjectionConfig
from rayflow.policies.ejection import Ejector

CONFIG = EjectionConfig(consecutive_failures=3, min_calls=10, failure_rate=0.5, base_s=10.0, max_s=60.0)


def ejector(*replicas: str, config: EjectionConfig = CONFIG) -> Ejector:
    made = Ejector(config)
    made.members(replicas, 0.0)
    return made


def fail(made: Ejector, replica: str, now: float, times: int = 3) -> None:
    for call in range(times):
        made.ended(replica, f"{replica} {now} {call}", False, now)


def due(made: Ejector, now: float) -> list[str]:
    """Who may be tried, with others that answer."""
    made.ended("b", "of another", True, now)
    return made.due(now)


def probe(made: Ejector, replica: str, now: float, ok: bool | None) -> str | None:
    assert replica in due(made, now)
    made.probing(replica, "probe")
    return made.ended(replica, "probe", ok, now)


def test_failures_in_a_row_take_a_replica_out() -> None:
    made = ejector("a", "b", "c")
    fail(made, "a", 1.0, times=2)
    assert not made.out
    assert made.ended("a", "t", False, 1.0) == "out"
    assert list(made.out) == ["a"]


def test_a_success_between_failures_begins_the_row_anew() -> None:
    made = ejector("a", "b")
    for now in range(8):
        fail(made, "a", float(now), times=2)
        made.ended("a", "t", True, float(now))
        if now < 2:
            assert not made.out


def test_a_share_of_failures_within_the_window_takes_it_out_but_only_of_enough_calls() -> None:
    made = ejector("a", "b")
    for call in range(9):
        made.ended("a", "t", call % 2 == 0, 1.0)
    assert not made.out, "9 calls are too few"
    made.ended("a", "t", False, 1.0)
    assert list(made.out) == ["a"]


def test_failures_of_long_ago_do_not_count() -> None:
    made = ejector("a", "b")
    for call in range(30):
        made.ended("a", "t", call % 2 == 0, call * CONFIG.window_s / 4)
    assert not made.out


def test_when_its_time_is_up_one_call_tries_it_and_brings_it_back() -> None:
    made = ejector("a", "b")
    fail(made, "a", 0.0)
    assert due(made, 9.9) == []
    assert due(made, 10.0) == ["a"]
    made.probing("a", "probe")
    assert due(made, 10.0) == [], "one at a time"
    assert made.ended("a", "probe", True, 11.0) == "back"
    assert not made.out


def test_while_nobody_else_answers_the_probe_comes_after_twice_the_time() -> None:
    made = ejector("a", "b")
    made.ended("b", "t", True, 0.0)
    fail(made, "a", 1.0)
    fail(made, "b", 5.0, times=2)
    assert made.due(11.0) == made.due(20.9) == []
    assert made.due(21.0) == ["a"]


def test_each_failed_probe_doubles_the_time_out_up_to_a_limit() -> None:
    made, now = ejector("a", "b"), 0.0
    fail(made, "a", now)
    for out_s in (10.0, 20.0, 40.0, 60.0, 60.0):
        assert due(made, now + out_s - 0.1) == []
        now += out_s
        assert probe(made, "a", now, ok=False) is None


def test_a_cancelled_probe_says_nothing_and_the_next_call_may_try() -> None:
    made = ejector("a", "b")
    fail(made, "a", 0.0)
    assert probe(made, "a", 10.0, ok=None) is None
    assert due(made, 10.0) == ["a"]


@pytest.mark.parametrize("ok", [True, False])
def test_calls_that_were_there_before_say_nothing_about_an_ejected_replica(ok: bool) -> None:
    made = ejector("a", "b")
    fail(made, "a", 0.0)
    assert made.ended("a", "old", ok, 5.0) is None
    assert due(made, 9.0) == [] and due(made, 10.0) == ["a"]


def test_who_fails_again_soon_is_out_for_longer_and_who_behaved_well_is_forgiven() -> None:
    made = ejector("a", "b")
    fail(made, "a", 0.0)
    probe(made, "a", 10.0, ok=True)
    fail(made, "a", 12.0)
    assert due(made, 31.9) == [] and due(made, 32.0) == ["a"], "20 s the second time"
    probe(made, "a", 32.0, ok=True)
    fail(made, "a", 62.0)
    assert due(made, 72.0) == ["a"], "30 s of good behaviour: three times forgiven"


@pytest.mark.parametrize(("size", "share", "most"), [(1, 0.5, 0), (2, 0.5, 1), (4, 0.5, 2), (4, 0.2, 0), (3, 1.0, 2)])
def test_never_more_than_the_share_is_out_and_never_the_last_one(size: int, share: float, most: int) -> None:
    replicas = [str(i) for i in range(size)]
    made = ejector(*replicas, config=CONFIG.model_copy(update={"max_share": share}))
    for replica in replicas:
        fail(made, replica, 0.0, times=10)
    assert len(made.out) == most


def test_when_the_pool_shrinks_the_longest_ejected_come_back() -> None:
    made = ejector("a", "b", "c", "d")
    fail(made, "a", 0.0)
    fail(made, "b", 1.0)
    made.members(["a", "b"], 2.0)
    assert list(made.out) == ["b"]
    made.members(["b"], 3.0)
    assert not made.out


def test_a_replica_that_left_and_came_again_is_a_new_one() -> None:
    made = ejector("a", "b")
    fail(made, "a", 0.0)
    made.members(["b"], 1.0)
    assert not made.out
    made.members(["a", "b"], 2.0)
    fail(made, "a", 2.0, times=2)
    assert not made.out


class EjectionMachine(RuleBasedStateMachine):
    """Whatever happens: few are out, each has one probe at most, and none without its time being up."""

    @initialize(share=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    def begin(self, share: float) -> None:
        self.share = share
        self.made = ejector("a", "b", "c", "d", config=CONFIG.model_copy(update={"max_share": share}))
        self.replicas = {"a", "b", "c", "d"}
        self.now = 0.0
        self.probes: dict[str, str] = {}
        self.out_since: dict[str, float] = {}
        self.count = 0

    def note(self, before: set[str]) -> None:
        for replica in self.made.out.keys() - before:
            self.out_since[replica] = self.now

    @rule(replica=st.sampled_from("abcd"), ok=st.sampled_from([True, False, False, None]), times=st.integers(1, 4))
    def ordinary_calls_end(self, replica: str, ok: bool | None, times: int) -> None:
        for _ in range(times):
            before, self.count = set(self.made.out), self.count + 1
            change = self.made.ended(replica, f"call {self.count}", ok, self.now)
            assert change in (None, "out")
            assert (change == "out") == (replica in self.made.out.keys() - before)
            assert before <= self.made.out.keys(), "only probes bring back"
            self.note(before)

    @rule(seconds=st.floats(0.1, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def somebody_is_tried(self) -> None:
        for replica in self.made.due(self.now):
            assert self.now - self.out_since[replica] >= CONFIG.base_s * 0.999
            assert replica not in self.probes
            self.count += 1
            self.probes[replica] = f"probe {self.count}"
            self.made.probing(replica, self.probes[replica])

    @precondition(lambda self: self.probes)
    @rule(data=st.data(), ok=st.sampled_from([True, False, None]))
    def a_probe_ends(self, data: st.DataObject, ok: bool | None) -> None:
        replica = data.draw(st.sampled_from(sorted(self.probes)))
        was_out = replica in self.made.out
        change = self.made.ended(replica, self.probes.pop(replica), ok, self.now)
        assert (change == "back") == (ok is True and was_out)
        if ok is False and was_out:
            self.out_since[replica] = self.now
            assert replica not in self.made.due(self.now)

    @rule(replicas=st.sets(st.sampled_from("abcd")))
    def the_pool_changes(self, replicas: set[str]) -> None:
        self.made.members(sorted(replicas), self.now)
        self.replicas = replicas
        self.probes = {replica: ticket for replica, ticket in self.probes.items() if replica in self.made.out}

    @invariant()
    def few_are_out(self) -> None:
        out = len(self.made.out)
        assert out <= self.share * len(self.replicas)
        assert out < len(self.replicas) or not out
        assert self.made.out.keys() <= self.replicas


TestEjectionMachine = EjectionMachine.TestCase
TestEjectionMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
