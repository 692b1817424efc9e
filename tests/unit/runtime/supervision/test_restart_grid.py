"""Restart type x exit reason x strategy, as in the tables of Erlang's supervisor manual, in virtual time.

Each case has three children a, b, c, started in this order; b ends.
"""

from __future__ import annotations

import pytest
from theatre import group, theatre

from rayflow.policies.restart import ExitReason, RestartPolicy, RestartType, Strategy

UP, DONE, PARKED = "ready", "done", "parked"

NOBODY: list[str] = []
ONE = ["spawn b", "ready b"]
ALL = ["stop c", "stop a", "spawn a", "spawn b", "spawn c", "ready a", "ready b", "ready c"]
REST = ["stop c", "spawn b", "spawn c", "ready b", "ready c"]

GRID: list[tuple[RestartType, ExitReason, Strategy, list[str], str]] = [
    # type         b ends with   strategy        what follows   b is then
    ("permanent",  "normal",     "one_for_one",  ONE,           UP),
    ("permanent",  "shutdown",   "one_for_one",  ONE,           UP),
    ("permanent",  "abnormal",   "one_for_one",  ONE,           UP),
    ("permanent",  "normal",     "one_for_all",  ALL,           UP),
    ("permanent",  "shutdown",   "one_for_all",  ALL,           UP),
    ("permanent",  "abnormal",   "one_for_all",  ALL,           UP),
    ("permanent",  "normal",     "rest_for_one", REST,          UP),
    ("permanent",  "shutdown",   "rest_for_one", REST,          UP),
    ("permanent",  "abnormal",   "rest_for_one", REST,          UP),
    ("transient",  "normal",     "one_for_one",  NOBODY,        DONE),
    ("transient",  "shutdown",   "one_for_one",  NOBODY,        DONE),
    ("transient",  "abnormal",   "one_for_one",  ONE,           UP),
    ("transient",  "normal",     "one_for_all",  NOBODY,        DONE),
    ("transient",  "shutdown",   "one_for_all",  NOBODY,        DONE),
    ("transient",  "abnormal",   "one_for_all",  ALL,           UP),
    ("transient",  "normal",     "rest_for_one", NOBODY,        DONE),
    ("transient",  "shutdown",   "rest_for_one", NOBODY,        DONE),
    ("transient",  "abnormal",   "rest_for_one", REST,          UP),
    ("temporary",  "normal",     "one_for_one",  NOBODY,        DONE),
    ("temporary",  "shutdown",   "one_for_one",  NOBODY,        DONE),
    ("temporary",  "abnormal",   "one_for_one",  NOBODY,        DONE),
    ("temporary",  "normal",     "one_for_all",  NOBODY,        DONE),
    ("temporary",  "shutdown",   "one_for_all",  NOBODY,        DONE),
    ("temporary",  "abnormal",   "one_for_all",  NOBODY,        DONE),
    ("temporary",  "normal",     "rest_for_one", NOBODY,        DONE),
    ("temporary",  "shutdown",   "rest_for_one", NOBODY,        DONE),
    ("temporary",  "abnormal",   "rest_for_one", NOBODY,        DONE),
]  # fmt: skip


@pytest.mark.parametrize(("restart", "reason", "strategy", "follows", "state"), GRID)
def test_what_follows_when_a_child_ends(
    restart: RestartType, reason: ExitReason, strategy: Strategy, follows: list[str], state: str
) -> None:
    t = theatre(*group("a", "b", "c", strategy=strategy, restart=restart))
    t.exits("b", reason)
    assert t.told() == follows
    assert t.states() == {"a": UP, "b": state, "c": UP}


@pytest.mark.parametrize(
    ("strategy", "parked"),
    [("one_for_one", ["b"]), ("one_for_all", ["a", "b", "c"]), ("rest_for_one", ["b", "c"])],
)
def test_after_one_death_too_many_whoever_shares_the_fate_of_the_dead_is_parked(
    strategy: Strategy, parked: list[str]
) -> None:
    strict = RestartPolicy(intensity=2, period_s=10.0, base_delay_s=0.0)
    t = theatre(*group("a", "b", "c", strategy=strategy, policy=strict), *group("other", policy=strict))
    for _ in range(2):
        t.exits("b")
        assert set(t.states().values()) == {UP}
    t.told()
    t.exits("b")
    assert t.told() == [f"stop {child}" for child in reversed(parked) if child != "b"]
    assert t.states() == {**dict.fromkeys("abc", UP), **dict.fromkeys(parked, PARKED), "other": UP}


def test_deaths_of_a_group_are_counted_together() -> None:
    t = theatre(*group("a", "b", policy=RestartPolicy(intensity=2, base_delay_s=0.0)))
    for child in ("a", "b", "a"):
        t.exits(child)
    assert t.states() == {"a": PARKED, "b": UP}


def test_deaths_far_apart_never_park() -> None:
    t = theatre(*group("a", policy=RestartPolicy(intensity=1, period_s=10.0)))
    for _ in range(20):
        t.exits("a")
        t.passes(10.2)
        assert t.states() == {"a": UP}


def test_a_child_that_dies_again_waits_before_it_starts() -> None:
    t = theatre(*group("a", policy=RestartPolicy(base_delay_s=1.0, max_delay_s=1.0)))
    t.exits("a")
    t.exits("a")
    assert t.states() == {"a": "waiting"}
    t.passes(1.1)
    assert t.states() == {"a": UP}
    assert t.supervisor.children["a"].restarts == 2


def test_dependants_wait_together_for_a_restart_that_is_held_back() -> None:
    t = theatre(*group("a", "b", strategy="one_for_all", policy=RestartPolicy(base_delay_s=2.0)))
    t.exits("a")
    t.told()
    t.exits("a")
    assert t.told() == ["stop b"]
    assert t.states() == {"a": "waiting", "b": "waiting"}
    t.passes(2.1)
    assert t.states() == {"a": UP, "b": UP}


def test_nobody_starts_while_a_dependant_still_stops() -> None:
    t = theatre(*group("a", "b", strategy="one_for_all"))
    t.stubborn.add("b")
    t.exits("a")
    assert t.told() == ["stop b"]
    t.passes(11.0)
    assert t.told() == []
    t.passes(2.0)
    assert t.told() == ["kill b", "spawn a", "spawn b", "ready a", "ready b"], "after its budget and the grace"


def test_a_dependant_is_admitted_only_after_the_ones_before_it() -> None:
    t = theatre(*group("a", "b", strategy="rest_for_one"))
    t.absent.add("a")
    t.exits("a")
    assert t.states() == {"a": "booting", "b": "joined"}
    t.do(t.supervisor.joined("a", t.supervisor.children["a"].epoch, t.now))
    assert t.states() == {"a": UP, "b": UP}


def test_temporary_siblings_of_the_dead_are_stopped_and_not_started_again() -> None:
    t = theatre(*group("a", strategy="one_for_all"), *group("a", "b", strategy="one_for_all", restart="temporary")[1:])
    t.exits("a")
    assert t.told() == ["stop b", "spawn a", "ready a"]
    assert t.states() == {"a": UP, "b": DONE}


def test_a_finished_transient_child_comes_back_with_its_siblings() -> None:
    t = theatre(*group("a", "b", strategy="one_for_all", restart="transient"))
    t.exits("b", "normal")
    t.exits("a", "abnormal")
    assert t.states() == {"a": UP, "b": UP}


def test_a_parked_child_gets_one_more_chance_after_a_while() -> None:
    t = theatre(*group("a", policy=RestartPolicy(intensity=0, retry_after_s=60.0)))
    t.exits("a")
    t.passes(59.8)
    assert t.states() == {"a": PARKED}
    t.passes(0.4)
    assert t.states() == {"a": UP}


def test_a_child_that_dies_within_the_period_after_its_second_chance_is_parked_at_once() -> None:
    policy = RestartPolicy(intensity=3, period_s=30.0, base_delay_s=0.0, retry_after_s=60.0)
    t = theatre(*group("a", policy=policy))
    t.broken.add("a")
    t.exits("a")
    assert t.states() == {"a": PARKED}
    t.told()
    t.passes(61.0)
    assert t.told() == ["spawn a"], "one attempt"
    assert t.states() == {"a": PARKED}
    t.broken.clear()
    t.passes(61.0 + 31.0)
    t.exits("a")
    assert t.states() == {"a": UP}, "it has proved itself"


def test_a_child_that_never_joins_is_ended_and_counts_as_dead() -> None:
    t = theatre(*group("a"))
    t.absent.add("a")
    t.exits("a")
    t.told()
    t.passes(60.2)
    assert t.told() == ["kill a", "spawn a"]
    assert t.supervisor.children["a"].detail == "not up within 60 s"


def test_a_group_that_is_parked_does_not_hold_up_the_start_of_others() -> None:
    t = theatre(*group("a", policy=RestartPolicy(intensity=0)), *group("b", phase=1))
    t.broken.add("a")
    t.exits("a")
    t.exits("b")
    assert t.states() == {"a": PARKED, "b": UP}
