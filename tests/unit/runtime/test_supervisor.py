"""The supervisor: who starts when, who starts again, who stops first."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rayflow.policies.restart import RestartPolicy
from rayflow.runtime.supervisor import UP, Admit, ChildSpec, Instruction, Spawn, Stop, Supervisor

RNG = random.Random(1)
SPECS = [
    ChildSpec("log", "eventlog", 0),
    ChildSpec("store/0", "session", 1),
    ChildSpec("store/1", "session", 1),
    ChildSpec("router", "router", 2),
]


def join(supervisor: Supervisor, *addresses: str) -> list[Instruction]:
    done: list[Instruction] = []
    for address in addresses:
        done += supervisor.joined(address, supervisor.children[address].epoch, 1.0)
    return done


def ready(supervisor: Supervisor, *addresses: str) -> list[Instruction]:
    done: list[Instruction] = []
    for address in addresses:
        done += supervisor.ready(address, supervisor.children[address].epoch, 1.0)
    return done


def lose(supervisor: Supervisor, address: str, now: float = 1.0) -> list[Instruction]:
    return supervisor.lost(address, supervisor.children[address].epoch, "killed", now, RNG)


def admitted(instructions: list[Instruction]) -> list[str]:
    return [instruction.address for instruction in instructions if isinstance(instruction, Admit)]


def running() -> Supervisor:
    supervisor = Supervisor(SPECS)
    supervisor.start(0.0)
    join(supervisor, "log", "store/0", "store/1", "router")
    ready(supervisor, "log", "store/0", "store/1", "router")
    assert supervisor.all_ready
    return supervisor


def test_all_processes_are_spawned_at_once() -> None:
    assert Supervisor(SPECS).start(0.0) == [Spawn(spec, 1) for spec in SPECS]


def test_a_child_is_admitted_when_every_earlier_phase_is_ready() -> None:
    supervisor = Supervisor(SPECS)
    supervisor.start(0.0)
    assert admitted(join(supervisor, "router", "store/1")) == []
    assert admitted(join(supervisor, "log")) == ["log"]
    assert admitted(ready(supervisor, "log")) == ["store/1"]
    assert admitted(join(supervisor, "store/0")) == ["store/0"]
    assert admitted(ready(supervisor, "store/1")) == []
    assert admitted(ready(supervisor, "store/0")) == ["router"]
    assert not supervisor.all_ready
    ready(supervisor, "router")
    assert supervisor.all_ready


def test_once_the_system_has_been_up_a_healing_child_waits_for_nobody() -> None:
    supervisor = running()
    lose(supervisor, "log")
    lose(supervisor, "router")
    assert admitted(join(supervisor, "router")) == ["router"]


def test_a_parked_child_does_not_hold_up_the_start_of_others() -> None:
    fragile = ChildSpec("log", "eventlog", 0, RestartPolicy(intensity=0))
    supervisor = Supervisor([fragile, *SPECS[1:]])
    supervisor.start(0.0)
    join(supervisor, "store/0")
    assert admitted(lose(supervisor, "log")) == ["store/0"]
    assert supervisor.children["log"].state == "parked"
    assert supervisor.children["log"].detail == "killed"


def test_a_lost_child_is_started_again_as_a_new_incarnation() -> None:
    supervisor = running()
    assert lose(supervisor, "router") == [Spawn(SPECS[3], 2, 0.0)]
    child = supervisor.children["router"]
    assert (child.state, child.restarts) == ("booting", 1)
    join(supervisor, "router")
    ready(supervisor, "router")
    assert supervisor.all_ready
    assert child.detail == ""


def test_a_child_that_dies_again_waits_before_it_starts() -> None:
    supervisor = running()
    lose(supervisor, "router")
    (spawn,) = lose(supervisor, "router")
    assert isinstance(spawn, Spawn)
    assert spawn.delay_s > 0
    child = supervisor.children["router"]
    assert child.state == "waiting"
    assert supervisor.joined("router", spawn.epoch, 1.1) == []
    assert supervisor.spawning("router", spawn.epoch, 1.2)
    assert child.state == "booting"


def test_a_child_is_parked_after_its_intensity_and_others_do_not_notice() -> None:
    supervisor = running()
    for _ in range(5):
        (spawn,) = lose(supervisor, "store/0")
        assert isinstance(spawn, Spawn)
        supervisor.spawning("store/0", spawn.epoch, 1.0)
    assert lose(supervisor, "store/0") == []
    assert supervisor.children["store/0"].state == "parked"
    assert not supervisor.all_ready
    assert supervisor.children["store/1"].state == "ready"


def test_deaths_far_apart_never_park() -> None:
    supervisor = running()
    for now in range(0, 1000, 100):
        assert lose(supervisor, "router", float(now)) == [Spawn(SPECS[3], now // 100 + 2, 0.0)]


@pytest.mark.parametrize("event", ["joined", "ready", "lost"])
def test_late_messages_of_a_dead_incarnation_change_nothing(event: str) -> None:
    supervisor = running()
    lose(supervisor, "router")
    before = supervisor.children["router"].state
    late = (
        supervisor.lost("router", 1, "late", 2.0, RNG)
        if event == "lost"
        else getattr(supervisor, event)("router", 1, 2.0)
    )
    assert late == []
    assert supervisor.children["router"].state == before
    assert not supervisor.spawning("router", 1, 2.0)


def test_unknown_children_change_nothing() -> None:
    supervisor = running()
    assert supervisor.joined("nobody", 1, 1.0) == []
    assert supervisor.ready("nobody", 1, 1.0) == []
    assert supervisor.lost("nobody", 1, "x", 1.0, RNG) == []
    assert not supervisor.spawning("nobody", 1, 1.0)


def test_children_stop_in_reverse_each_phase_when_the_later_one_is_down() -> None:
    supervisor = running()
    assert supervisor.shutdown(2.0) == [Stop("router")]
    assert lose(supervisor, "router") == [Stop("store/0"), Stop("store/1")]
    assert lose(supervisor, "store/1") == []
    assert lose(supervisor, "store/0") == [Stop("log")]
    assert not supervisor.all_stopped
    assert lose(supervisor, "log") == []
    assert supervisor.all_stopped


def test_a_child_that_dies_while_stopping_is_not_started_again() -> None:
    supervisor = running()
    supervisor.shutdown(2.0)
    assert lose(supervisor, "log") == []
    assert supervisor.children["log"].state == "stopped"


def test_a_second_shutdown_asks_nobody_twice() -> None:
    supervisor = running()
    supervisor.shutdown(2.0)
    assert supervisor.shutdown(3.0) == []


def test_children_without_a_process_count_as_stopped() -> None:
    supervisor = running()
    lose(supervisor, "router")
    (spawn,) = lose(supervisor, "router")
    assert supervisor.shutdown(2.0) == [Stop("store/0"), Stop("store/1")]
    assert isinstance(spawn, Spawn)
    assert not supervisor.spawning("router", spawn.epoch, 3.0), "its delayed start is no longer wanted"


@dataclass
class World:
    """What the coordinator and its backend do with instructions: processes live and die here."""

    live: set[tuple[str, int]] = field(default_factory=set)
    due: list[Spawn] = field(default_factory=list)
    ended: list[tuple[str, int]] = field(default_factory=list)


class SupervisorMachine(RuleBasedStateMachine):
    """Any order of joins, readiness, deaths, late news and a shutdown."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(0)
        self.now = 0.0
        self.world = World()
        policy = RestartPolicy(intensity=2, period_s=20.0)
        self.supervisor = Supervisor([ChildSpec(s.address, s.role, s.phase, policy) for s in SPECS])
        self.carry_out(self.supervisor.start(self.now))

    def carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Spawn():
                    self.world.due.append(instruction)
                case Admit(address, epoch):
                    assert (address, epoch) in self.world.live, "only a living process is admitted"
                case Stop(address):
                    phase = self.supervisor.children[address].spec.phase
                    later = [c for c in self.supervisor.children.values() if c.spec.phase > phase]
                    assert all(child.state == "stopped" for child in later)

    @precondition(lambda self: self.world.due)
    @rule(data=st.data())
    def a_process_starts(self, data: st.DataObject) -> None:
        spawn = data.draw(st.sampled_from(self.world.due))
        self.world.due.remove(spawn)
        if spawn.epoch == 1 or self.supervisor.spawning(spawn.spec.address, spawn.epoch, self.now):
            assert all(address != spawn.spec.address for address, _ in self.world.live), "two incarnations at once"
            self.world.live.add((spawn.spec.address, spawn.epoch))
        elif self.supervisor.children[spawn.spec.address].state in UP:
            # It was to be stopped before it was there.
            self.carry_out(self.supervisor.lost(spawn.spec.address, spawn.epoch, "unwanted", self.now, self.rng))

    @precondition(lambda self: self.world.live)
    @rule(data=st.data(), event=st.sampled_from(["joined", "ready", "lost"]), seconds=st.sampled_from([0.0, 1.0, 15.0]))
    def something_happens(self, data: st.DataObject, event: str, seconds: float) -> None:
        self.now += seconds
        process = data.draw(st.sampled_from(sorted(self.world.live)))
        if event == "lost":
            self.world.live.remove(process)
            self.world.ended.append(process)
        self.news(event, process)

    @precondition(lambda self: self.world.ended)
    @rule(data=st.data(), event=st.sampled_from(["joined", "ready", "lost"]))
    def late_news_arrives(self, data: st.DataObject, event: str) -> None:
        process = data.draw(st.sampled_from(self.world.ended))
        states = {address: child.state for address, child in self.supervisor.children.items()}
        self.news(event, process)
        assert states == {address: child.state for address, child in self.supervisor.children.items()}

    def news(self, event: str, process: tuple[str, int]) -> None:
        address, epoch = process
        match event:
            case "joined":
                self.carry_out(self.supervisor.joined(address, epoch, self.now))
            case "ready":
                self.carry_out(self.supervisor.ready(address, epoch, self.now))
            case _:
                self.carry_out(self.supervisor.lost(address, epoch, "killed", self.now, self.rng))

    @rule()
    def shut_down(self) -> None:
        self.carry_out(self.supervisor.shutdown(self.now))

    @invariant()
    def holds(self) -> None:
        for address, child in self.supervisor.children.items():
            incarnations = [epoch for name, epoch in self.world.live if name == address]
            assert incarnations in ([], [child.epoch]), "at most the current incarnation lives"
            if child.state in ("joined", "starting", "ready"):
                assert incarnations, f"{address} is {child.state} without a process"
            if child.state in ("stopped", "parked", "waiting"):
                assert not incarnations, f"{address} is {child.state} and lives"
            assert len(child.deaths) <= child.spec.restart.intensity + 1
        if self.supervisor.stopping:
            assert all(child.state not in ("waiting", "parked") for child in self.supervisor.children.values())
        if self.supervisor.stopping and not self.world.live and not self.world.due:
            assert self.supervisor.all_stopped


TestSupervisorMachine = SupervisorMachine.TestCase
TestSupervisorMachine.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


def test_a_ready_child_that_is_silent_for_too_long_hangs() -> None:
    supervisor = running()
    supervisor.heard("log", 1, 4.0)
    assert supervisor.silent(4.0, 5.0) == []
    assert supervisor.silent(4.0, 5.1) == [("store/0", 1), ("store/1", 1), ("router", 1)]
    supervisor.heard("router", 0, 5.1)
    assert ("router", 1) in supervisor.silent(4.0, 5.1), "an older incarnation's answer means nothing"


def test_a_child_that_is_not_ready_may_be_silent() -> None:
    supervisor = running()
    lose(supervisor, "log")
    assert ("log", 2) not in supervisor.silent(4.0, 100.0)


def test_after_an_absence_of_the_supervisor_nobody_is_blamed() -> None:
    supervisor = running()
    supervisor.excuse(100.0)
    assert supervisor.silent(4.0, 104.0) == []
