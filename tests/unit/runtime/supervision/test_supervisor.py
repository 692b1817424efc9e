"""The supervisor: who starts when, who stops first, who takes over from whom, and who is found alive."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from theatre import Theatre, group, theatre

from rayflow.runtime.supervision.child import Incarnation
from rayflow.runtime.supervision.instructions import Kill, Spawn, Stop
from rayflow.runtime.supervision.supervisor import Supervisor

RNG = random.Random(1)
LOG = group("log")
STORES = group("store/0", "store/1", phase=1)
ROUTERS = group("router/0", "router/1", phase=2, handover=True)
SPECS = [*LOG, *STORES, *ROUTERS]


def test_all_processes_are_spawned_at_once() -> None:
    assert Supervisor(SPECS).start(0.0) == [Spawn(spec, 1) for spec in SPECS]


def test_a_child_is_admitted_when_every_earlier_phase_is_ready() -> None:
    t = Theatre(Supervisor(SPECS), absent={"log"}).start()
    assert t.states() == {"log": "booting", **{s.address: "joined" for s in (*STORES, *ROUTERS)}}
    t.told()
    t.do(t.supervisor.joined("log", 1, 1.0))
    assert t.told() == ["ready log", "ready store/0", "ready store/1", "ready router/0", "ready router/1"]
    assert t.supervisor.all_ready


def test_once_the_system_has_been_up_a_healing_child_waits_for_nobody() -> None:
    t = theatre(*SPECS)
    t.absent.add("log")
    t.exits("log")
    t.exits("router/0")
    assert t.states() == {**{s.address: "ready" for s in SPECS}, "log": "booting"}


@pytest.mark.parametrize("event", ["joined", "ready", "heard", "lost", "exited"])
@pytest.mark.parametrize(("address", "epoch"), [("log", 1), ("log", 3), ("nobody", 1)])
def test_news_of_an_incarnation_that_does_not_exist_change_nothing(event: str, address: str, epoch: int) -> None:
    t = theatre(*SPECS)
    t.exits("log")
    before = t.states()
    supervisor = t.supervisor
    match event:
        case "lost":
            late = supervisor.lost(address, epoch, "late", 2.0, RNG)
        case "exited":
            late = supervisor.exited(address, epoch, "abnormal", "late", 2.0, RNG)
        case _:
            late = getattr(supervisor, event)(address, epoch, 2.0)
    assert late == []
    assert t.states() == before
    assert supervisor.children["log"].epoch == 2


def test_a_child_that_may_only_be_cut_off_is_killed_before_another_takes_its_place() -> None:
    t = theatre(*LOG)
    assert t.supervisor.lost("log", 1, "connection lost", 1.0, RNG) == [Kill("log", 1), Spawn(LOG[0], 2, 1, 0.0)]


def test_a_ready_child_that_is_silent_for_too_long_hangs() -> None:
    supervisor = theatre(*LOG, *STORES).supervisor
    supervisor.heard("log", 1, 4.0)
    assert supervisor.overdue(4.0) == []
    assert supervisor.overdue(4.1) == [(a, 1, "no sign of life for 4 s") for a in ("store/0", "store/1")]


def test_after_an_absence_of_the_supervisor_nobody_is_blamed() -> None:
    supervisor = theatre(*LOG).supervisor
    supervisor.excuse(100.0)
    assert supervisor.overdue(104.0) == []


# --- stopping ---


def test_children_stop_in_reverse_each_phase_when_the_later_one_is_down() -> None:
    t = theatre(*SPECS)
    t.stubborn.add("router/1")
    t.do(t.supervisor.shutdown(5.0, t.now))
    assert t.told() == ["stop router/0", "stop router/1"]
    t.exits("router/1", "normal")
    assert t.told() == ["stop store/0", "stop store/1", "stop log"]
    assert t.supervisor.all_stopped


def test_who_does_not_stop_within_the_budget_is_killed() -> None:
    t = theatre(*LOG)
    t.stubborn.add("log")
    t.do(t.supervisor.shutdown(5.0, t.now))
    t.passes(6.9)
    assert t.told() == ["stop log"]
    t.passes(0.2)
    assert t.told() == ["kill log"]
    assert t.supervisor.all_stopped


def test_a_child_that_has_not_served_has_nothing_to_finish() -> None:
    t = Theatre(Supervisor(SPECS), absent={"log"}).start()
    t.told()
    t.do(t.supervisor.shutdown(5.0, t.now))
    assert t.told() == ["kill router/0", "kill router/1", "kill store/0", "kill store/1", "kill log"]


def test_a_child_that_dies_while_all_are_stopped_is_not_started_again() -> None:
    t = theatre(*SPECS)
    t.stubborn.add("router/0")
    t.do(t.supervisor.shutdown(5.0, t.now))
    t.told()
    t.exits("log")
    assert t.told() == []
    assert t.states()["log"] == "stopped"


def test_a_second_shutdown_asks_nobody_twice() -> None:
    t = theatre(*LOG)
    t.stubborn.add("log")
    t.do(t.supervisor.shutdown(5.0, t.now))
    assert t.supervisor.shutdown(5.0, t.now) == []


def test_children_that_wait_or_are_parked_count_as_stopped() -> None:
    t = theatre(*LOG)
    for _ in range(6):
        t.exits("log")
    assert t.states() == {"log": "parked"}
    t.told()
    t.do(t.supervisor.shutdown(5.0, t.now))
    assert t.supervisor.all_stopped
    assert t.states() == {"log": "stopped"}
    t.passes(100.0)
    assert t.told() == []


# --- changing what is wanted ---


def newer(spec_of: str, t: Theatre) -> None:
    t.do(t.supervisor.replace(replace(t.supervisor.children[spec_of].spec, generation=2), t.now))


def test_the_successor_is_ready_before_the_one_that_serves_is_stopped() -> None:
    t = theatre(*ROUTERS)
    newer("router/0", t)
    assert t.told() == ["spawn router/0", "ready router/0", "stop router/0"]
    child = t.supervisor.children["router/0"]
    assert (child.epoch, child.spec.generation, child.restarts) == (2, 2, 0)


def test_while_the_successor_boots_the_present_one_serves() -> None:
    t = theatre(*ROUTERS)
    t.absent.add("router/0")
    newer("router/0", t)
    child = t.supervisor.children["router/0"]
    assert (child.state, child.epoch) == ("ready", 1)
    assert child.successor is not None
    assert child.successor.epoch == 2


def test_a_successor_that_dies_leaves_everything_as_it_was_and_says_why() -> None:
    t = theatre(*ROUTERS)
    t.broken.add("router/0")
    newer("router/0", t)
    child = t.supervisor.children["router/0"]
    assert (child.state, child.epoch, child.spec.generation, child.detail) == ("ready", 1, 1, "it died")
    assert t.told() == ["spawn router/0"]
    t.broken.clear()
    newer("router/0", t)
    assert (child.epoch, child.detail) == (3, ""), "no epoch is used twice"


def test_a_successor_that_never_joins_is_killed() -> None:
    t = theatre(*ROUTERS)
    t.absent.add("router/0")
    newer("router/0", t)
    t.passes(60.2)
    assert t.told() == ["spawn router/0", "kill router/0"]
    assert t.supervisor.children["router/0"].detail == "not up within 60 s"


def test_where_the_present_one_dies_the_successor_is_on_its_way_already() -> None:
    t = theatre(*ROUTERS)
    t.absent.add("router/0")
    newer("router/0", t)
    t.told()
    t.exits("router/0")
    child = t.supervisor.children["router/0"]
    assert (t.told(), child.state, child.epoch, child.spec.generation) == ([], "booting", 2, 2)


def test_the_only_writer_of_a_file_stops_before_the_next_one_starts() -> None:
    t = theatre(*STORES)
    t.stubborn.add("store/0")
    newer("store/0", t)
    assert t.told() == ["stop store/0"]
    t.exits("store/0", "normal")
    assert t.told() == ["spawn store/0", "ready store/0"]
    assert t.supervisor.children["store/0"].restarts == 0, "nothing died"


def test_a_parked_child_gets_a_fresh_start_with_a_new_configuration() -> None:
    t = theatre(*ROUTERS)
    for _ in range(6):
        t.exits("router/0")
    t.told()
    newer("router/0", t)
    assert t.told() == ["spawn router/0", "ready router/0"]


def test_a_child_can_be_added_and_is_started_at_once() -> None:
    t = theatre(*LOG)
    t.do(t.supervisor.add(ROUTERS[0], t.now))
    assert t.told() == ["spawn router/0", "ready router/0"]


def test_a_removed_child_is_drained_and_forgotten_but_its_epochs_are_not() -> None:
    t = theatre(*ROUTERS)
    t.stubborn.add("router/1")
    t.do(t.supervisor.remove("router/1", t.now))
    assert t.told() == ["stop router/1"]
    assert t.states()["router/1"] == "stopping"
    t.exits("router/1", "normal")
    assert "router/1" not in t.supervisor.children
    t.do(t.supervisor.add(ROUTERS[1], t.now))
    assert t.supervisor.children["router/1"].epoch == 2


def test_a_child_that_is_down_is_removed_at_once() -> None:
    t = theatre(*ROUTERS)
    for _ in range(6):
        t.exits("router/0")
    t.do(t.supervisor.remove("router/0", t.now))
    assert set(t.states()) == {"router/1"}


def test_a_child_that_heals_does_not_wait_for_a_sibling_that_is_being_removed() -> None:
    t = theatre(*ROUTERS)
    t.stubborn.add("router/1")
    t.do(t.supervisor.remove("router/1", t.now))
    t.exits("router/0")
    assert t.states() == {"router/0": "ready", "router/1": "stopping"}


def test_a_shutdown_in_the_middle_of_a_handover_ends_both() -> None:
    t = theatre(*ROUTERS)
    t.absent.add("router/0")
    newer("router/0", t)
    t.told()
    t.do(t.supervisor.shutdown(5.0, t.now))
    assert sorted(t.told()) == ["kill router/0", "stop router/0", "stop router/1"]
    assert t.supervisor.all_stopped


def test_a_shutdown_waits_for_a_successor_that_is_being_killed() -> None:
    supervisor = theatre(*ROUTERS[:1]).supervisor
    supervisor.replace(ROUTERS[0], 1.0)
    assert supervisor.shutdown(5.0, 1.0) == [Kill("router/0", 2), Stop("router/0", 1, 5.0)]
    supervisor.exited("router/0", 1, "normal", "ended", 1.0, RNG)
    assert not supervisor.all_stopped
    supervisor.exited("router/0", 2, "abnormal", "killed", 1.0, RNG)
    assert supervisor.all_stopped


def test_a_dependant_that_is_to_go_does_not_come_back_with_its_siblings() -> None:
    t = theatre(*group("a", "b", strategy="one_for_all"))
    t.stubborn.add("b")
    t.do(t.supervisor.remove("b", t.now))
    t.exits("a")
    t.exits("b", "normal")
    assert t.states() == {"a": "ready"}


# --- adoption ---


def found(supervisor: Supervisor, address: str, *recorded: tuple[int, str]) -> Theatre:
    """A new supervisor finds these incarnations of a child on record."""
    spec = supervisor.children[address].spec
    incarnations = [Incarnation(spec, epoch, state, 0.0) for epoch, state in recorded]  # type: ignore[arg-type]
    t = Theatre(supervisor, live={(address, epoch) for epoch, _ in recorded})
    t.do(supervisor.adopt(address, incarnations, 0, 0.0))
    return t


def recorded(*specs: str) -> Supervisor:
    return Supervisor([s for s in SPECS if s.address in specs], dict.fromkeys(specs, 7))


def test_a_living_child_is_adopted_and_not_spawned() -> None:
    t = found(recorded("router/0"), "router/0", (7, "ready"))
    t.start()
    assert t.states() == {"router/0": "adopting"}
    t.do(t.supervisor.heard("router/0", 7, 1.0))
    assert t.states() == {"router/0": "ready"}
    assert t.told() == []


def test_a_child_that_joins_again_as_ready_is_adopted_too() -> None:
    t = found(recorded("router/0"), "router/0", (7, "ready"))
    t.do(t.supervisor.ready("router/0", 7, 1.0))
    assert t.states() == {"router/0": "ready"}


def test_a_child_that_gives_no_sign_of_life_is_started_again_under_a_new_epoch() -> None:
    t = found(recorded("router/0"), "router/0", (7, "ready"))
    assert t.supervisor.overdue(3.0) == []
    ((address, epoch, why),) = t.supervisor.overdue(3.1)
    t.do(t.supervisor.lost(address, epoch, why, 3.1, RNG))
    assert t.told() == ["kill router/0", "spawn router/0", "ready router/0"]
    assert t.supervisor.children["router/0"].epoch == 8


@pytest.mark.parametrize("state", ["booting", "joined", "starting"])
def test_a_child_that_was_still_starting_may_take_its_time(state: str) -> None:
    t = found(recorded("router/0"), "router/0", (7, state))
    assert t.supervisor.overdue(30.0) == []
    t.do(t.supervisor.joined("router/0", 7, 30.0))
    assert t.states() == {"router/0": "ready"}


def test_a_handover_that_was_cut_short_goes_on_for_who_leaves_and_ends_who_was_to_come() -> None:
    t = found(recorded("router/0"), "router/0", (5, "stopping"), (6, "ready"), (7, "booting"))
    assert t.told() == ["stop router/0", "kill router/0"]
    child = t.supervisor.children["router/0"]
    assert (child.state, child.epoch) == ("adopting", 6)


def test_a_child_that_was_being_stopped_is_stopped_and_started() -> None:
    t = found(recorded("store/0"), "store/0", (7, "stopping"))
    assert t.told() == ["stop store/0", "spawn store/0", "ready store/0"]
    assert (t.supervisor.children["store/0"].epoch, t.supervisor.children["store/0"].restarts) == (8, 0)


def test_children_that_are_not_on_record_wait_for_the_ones_to_adopt() -> None:
    t = found(recorded("log", "router/0"), "log", (7, "ready"))
    t.start()
    assert t.states() == {"log": "adopting", "router/0": "joined"}
    t.do(t.supervisor.heard("log", 7, 1.0))
    assert t.states() == {"log": "ready", "router/0": "ready"}


def test_a_shutdown_goes_on_after_the_adoption() -> None:
    t = found(recorded("log", "router/0"), "log", (7, "ready"))
    t.do(t.supervisor.shutdown(5.0, 0.0))
    assert t.told() == ["stop log"]
    assert t.supervisor.all_stopped


def test_instructions_name_the_incarnation_they_are_for() -> None:
    t = theatre(*ROUTERS)
    t.absent.add("router/0")
    newer("router/0", t)
    assert t.supervisor.joined("router/0", 2, 1.0) == []
    assert t.supervisor.ready("router/0", 2, 1.0) == [Stop("router/0", 1, 10.0)]
