"""The supervisor under any order of events: what must hold always, and what must come to hold when things calm down."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from theatre import group

from rayflow.policies.restart import ExitReason, RestartPolicy
from rayflow.runtime.supervision.child import Incarnation
from rayflow.runtime.supervision.instructions import Instruction, Kill, Spawn, Stop
from rayflow.runtime.supervision.supervisor import Supervisor

POLICY = RestartPolicy(intensity=3, period_s=20.0, base_delay_s=0.5, retry_after_s=40.0)
GROUPS = [
    group("log", policy=POLICY),
    group("store/0", "store/1", phase=1, strategy="one_for_all", policy=POLICY),
    group("join/0", "join/1", "join/2", phase=2, strategy="rest_for_one", policy=POLICY),
    group("job/0", phase=2, restart="transient", policy=POLICY),
    group("agent/0", "agent/1", "agent/2", phase=3, handover=True, policy=POLICY),
]
SPECS = [spec for specs in GROUPS for spec in specs]
REASONS: list[ExitReason] = ["normal", "abnormal"]


class SupervisorMachine(RuleBasedStateMachine):
    """Processes start, join, become ready, end, hang and lag; the wishes change; the supervisor itself is replaced."""

    @initialize(seed=st.integers(0, 1000), up=st.booleans())
    def begin(self, seed: int, up: bool) -> None:
        """`up`: everything has come up before anything else happens."""
        self.rng = random.Random(seed)
        self.now = 0.0
        self.live: dict[tuple[str, int], str] = {}
        """Processes, and what they have said: nothing yet, joined or ready."""
        self.ended: list[tuple[str, int]] = []
        self.to_stop: set[tuple[str, int]] = set()
        self.used: dict[str, int] = {}
        self.restarts: dict[str, list[float]] = {}
        self.supervisor = Supervisor(SPECS)
        self.carry_out(self.supervisor.start(self.now))
        if up:
            self.calm_down(seconds=2.0)
            assert self.supervisor.all_ready

    # --- the world does what it is told ---

    def carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Spawn():
                    self.spawn(instruction)
                case Stop(address, epoch):
                    assert (address, epoch) in self.live, "only a process that lives is asked to stop"
                    self.to_stop.add((address, epoch))
                case Kill(address, epoch):
                    self.end((address, epoch), "abnormal")

    def spawn(self, spawn: Spawn) -> None:
        address, group = spawn.spec.address, spawn.spec.group
        assert spawn.epoch > self.used.get(address, 0), "epochs grow"
        self.used[address] = spawn.epoch
        siblings = [epoch for name, epoch in self.live if name == address]
        child = self.supervisor.children[address]
        leaving = {old.epoch for old in child.leaving}
        if child.successor is None:
            assert leaving.issuperset(siblings), "never two of one address, but in a handover"
        if spawn.attempt and not child.probation and group.strategy == "one_for_one":
            deaths = self.restarts.setdefault(group.name, [])
            deaths.append(child.died)
            recent = [at for at in deaths if 0.0 <= child.died - at <= POLICY.period_s]  # others may have died since
            assert len(recent) <= POLICY.intensity, "no more restarts than the window allows"
        self.live[address, spawn.epoch] = ""

    def end(self, process: tuple[str, int], reason: ExitReason) -> None:
        if self.live.pop(process, None) is not None:
            self.ended.append(process)
        self.to_stop.discard(process)
        self.carry_out(self.supervisor.exited(*process, reason, "it died", self.now, self.rng))

    # --- what may happen ---

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        """All that are ready answer their heartbeats meanwhile."""
        self.now += seconds
        self.supervisor.excuse(self.now)
        for address, epoch, why in self.supervisor.overdue(self.now):
            if (address, epoch) in self.live:
                self.ended.append((address, epoch))
                del self.live[address, epoch]
                self.to_stop.discard((address, epoch))
            self.carry_out(self.supervisor.lost(address, epoch, why, self.now, self.rng))
        self.carry_out(self.supervisor.tick(self.now))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def a_process_gets_on(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(sorted(self.live)))
        self.gets_on(process)

    def gets_on(self, process: tuple[str, int]) -> None:
        incarnation = self.supervisor.incarnation(*process)
        assert incarnation is not None, f"{process} is an orphan"
        if process in self.to_stop:
            self.end(process, "normal")
        elif incarnation.state == "starting":
            self.live[process] = "ready"
            self.carry_out(self.supervisor.ready(*process, self.now))
        elif incarnation.state in ("booting", "adopting") and self.live[process] != "ready":
            self.live[process] = "joined"
            self.carry_out(self.supervisor.joined(*process, self.now))
        else:
            self.carry_out(self.supervisor.heard(*process, self.now))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), reason=st.sampled_from(REASONS))
    def a_process_ends(self, data: st.DataObject, reason: ExitReason) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.live))), reason)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def a_connection_breaks(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(sorted(self.live)))
        instructions = self.supervisor.lost(*process, "connection lost", self.now, self.rng)
        assert instructions[0] == Kill(*process)
        self.carry_out(instructions)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), event=st.sampled_from(["joined", "ready", "heard"]))
    def late_news_arrives(self, data: st.DataObject, event: str) -> None:
        process = data.draw(st.sampled_from(self.ended))
        before = self.states()
        assert getattr(self.supervisor, event)(*process, self.now) == []
        assert self.supervisor.exited(*process, "abnormal", "late", self.now, self.rng) == []
        assert self.states() == before

    @precondition(lambda self: not self.supervisor.stopping)
    @rule(data=st.data())
    def a_child_is_to_change(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.supervisor.children)))
        child = self.supervisor.children[address]
        if child.fate != "removed" and child.successor is None:
            spec = replace(child.spec, generation=child.spec.generation + 1)
            self.carry_out(self.supervisor.replace(spec, self.now))

    @precondition(lambda self: not self.supervisor.stopping)
    @rule(data=st.data())
    def an_agent_comes_or_goes(self, data: st.DataObject) -> None:
        spec = data.draw(st.sampled_from(GROUPS[-1]))
        if spec.address in self.supervisor.children:
            self.carry_out(self.supervisor.remove(spec.address, self.now))
        else:
            self.carry_out(self.supervisor.add(spec, self.now))

    @precondition(lambda self: not self.supervisor.stopping)
    @rule()
    def the_supervisor_is_replaced(self) -> None:
        """Another one takes over from what is on record; what waited is started at once."""
        before = self.supervisor
        after = self.supervisor = Supervisor((c.spec for c in before.children.values()), before.epochs)
        self.restarts.clear()
        todo: list[Instruction] = []
        for address, child in before.children.items():
            found = [Incarnation(i.spec, i.epoch, recorded(i), self.now) for i in child.incarnations()]
            if found:
                todo += after.adopt(address, found, child.restarts, self.now)
        spawned = {i.spec.address for i in after.start(self.now) if isinstance(i, Spawn)}
        up = {address for address, child in before.children.items() if any(child.incarnations())}
        assert not spawned & up, "nobody who lives is spawned again"
        for address in spawned:
            child = after.children[address]
            todo.append(Spawn(child.spec, child.epoch))
        self.carry_out(todo)

    @rule()
    def all_is_to_stop(self) -> None:
        self.carry_out(self.supervisor.shutdown(5.0, self.now))

    # --- what must hold ---

    def states(self) -> dict[str, str]:
        return {address: child.state for address, child in self.supervisor.children.items()}

    @invariant()
    def every_process_has_a_place_and_every_place_its_process(self) -> None:
        if not hasattr(self, "supervisor"):
            return
        self.supervisor.validate()
        known = {(a, i.epoch) for a, child in self.supervisor.children.items() for i in child.incarnations()}
        assert known == self.live.keys()

    @invariant()
    def a_parked_group_disturbs_nobody(self) -> None:
        """Only who shares the fate of the dead is parked with it."""
        if not hasattr(self, "supervisor"):
            return
        for child in self.supervisor.children.values():
            if child.state == "parked" and child.spec.group.strategy == "one_for_one":
                assert child.detail or child.probation

    def teardown(self) -> None:
        """Left alone, everything permanent becomes ready or stays parked; told to stop, everything does."""
        if not hasattr(self, "supervisor"):
            return
        if not self.supervisor.stopping:
            self.calm_down()
            for child in self.supervisor.children.values():
                allowed = {"ready", "done"} if child.spec.restart == "transient" else {"ready"}
                assert child.state in allowed, (child.spec.address, child.state)
            self.carry_out(self.supervisor.shutdown(5.0, self.now))
        self.calm_down()
        assert self.supervisor.all_stopped
        assert not self.live

    def calm_down(self, seconds: float = 60.0) -> None:
        """Nothing dies any more, and time goes by, longer than anybody is parked."""
        until = self.now + seconds
        while self.now < until:
            for _ in range(4):
                for process in sorted(self.live):
                    if process in self.live:
                        self.gets_on(process)
            self.time_passes(2.0)


def recorded(incarnation: Incarnation) -> str:
    return "ready" if incarnation.state == "adopting" else incarnation.state


TestSupervisorMachine = SupervisorMachine.TestCase
TestSupervisorMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
