"""Pools that are scaled under any order of events: sizes, spares and rotation come to what they should be."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.runtime.configurations import Configurations
from rayflow.runtime.ledger import Knowledge
from rayflow.runtime.recall import holders, revive
from rayflow.runtime.roster import roster
from rayflow.runtime.supervision.fleet import Fleet
from rayflow.runtime.supervision.instructions import Instruction, Kill, Spawn, Stop
from rayflow.runtime.supervision.supervisor import Supervisor

AGENTS = [
    {"name": "a", "replicas": {"min": 1, "max": 4, "spares": 1}},
    {"name": "b", "replicas": {"min": 0, "max": 2}},
]
CONFIG = WorkflowConfig.model_validate({"name": "team", "agents": AGENTS, "monitoring": {"event_log": False}})


class FleetMachine(RuleBasedStateMachine):
    """Processes come up, end and are stopped; targets change; the coordinator is replaced."""

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.live: dict[tuple[str, int], str] = {}
        """Processes, and what they have said: nothing yet, joined or ready."""
        self.to_stop: set[tuple[str, int]] = set()
        self.configs = Configurations()
        self.configs.target = self.configs.add(dump(CONFIG))
        self.supervisor = Supervisor(roster(CONFIG, self.configs.target))
        self.fleet = Fleet(self.configs)
        self.do(self.supervisor.start(self.now))
        self.calm_down(2.0)

    def do(self, instructions: list[Instruction]) -> None:
        """As the coordinator does it: after every event the fleet settles, the directory is told, all is carried
        out."""
        steady = not self.supervisor.adopting
        instructions = [*instructions, *self.fleet.settle(self.supervisor, self.now, steady=steady)]
        serving = self.fleet.serving(self.supervisor)
        for instruction in instructions:
            match instruction:
                case Spawn(spec, epoch):
                    assert [a for a, _ in self.live].count(spec.address) == 0, "one process of an address"
                    self.live[spec.address, epoch] = ""
                case Stop(address, epoch):
                    assert serving.get(address) != epoch, "nobody is sent to it any more"
                    self.to_stop.add((address, epoch))
                case Kill(address, epoch):
                    self.ends((address, epoch))

    def ends(self, process: tuple[str, int]) -> None:
        if self.live.pop(process, None) is not None:
            self.to_stop.discard(process)
            self.do(self.supervisor.exited(*process, "abnormal", "it died", self.now, self.rng))

    def gets_on(self, process: tuple[str, int]) -> None:
        incarnation = self.supervisor.incarnation(*process)
        assert incarnation is not None, f"{process} is an orphan"
        if process in self.to_stop:
            self.ends(process)
        elif incarnation.state == "starting":
            self.live[process] = "ready"
            self.do(self.supervisor.ready(*process, self.now))
        elif incarnation.state in ("booting", "adopting") and self.live[process] != "ready":
            self.live[process] = "joined"
            self.do(self.supervisor.joined(*process, self.now))
        else:
            self.do(self.supervisor.heard(*process, self.now))

    @rule(agent=st.sampled_from(["a", "b"]), replicas=st.integers(0, 6))
    def a_pool_is_scaled(self, agent: str, replicas: int) -> None:
        self.fleet.scale(agent, replicas)
        self.do([])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def a_process_gets_on(self, data: st.DataObject) -> None:
        self.gets_on(data.draw(st.sampled_from(sorted(self.live))))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def a_process_ends(self, data: st.DataObject) -> None:
        self.ends(data.draw(st.sampled_from(sorted(self.live))))

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.supervisor.excuse(self.now)
        for address, epoch, why in self.supervisor.overdue(self.now):
            self.live.pop((address, epoch), None)
            self.to_stop.discard((address, epoch))
            self.do(self.supervisor.lost(address, epoch, why, self.now, self.rng))
        self.do(self.supervisor.tick(self.now))

    @rule()
    def the_coordinator_is_replaced(self) -> None:
        """By what is on record."""
        sizes = {agent: self.fleet.target(agent) for agent in ("a", "b")}
        shown = self.fleet.serving(self.supervisor)
        known = Knowledge(
            target=self.configs.target,
            epochs=self.supervisor.epochs,
            holders=holders(self.supervisor, lambda address, epoch: None),
            sizes=self.fleet.targets,
            spares=self.fleet.spares(self.supervisor),
        )
        self.supervisor, self.fleet, todo = revive(known, self.configs, self.now)
        assert {agent: self.fleet.target(agent) for agent in ("a", "b")} == sizes
        self.do(todo)
        assert self.fleet.serving(self.supervisor) == shown, "nobody sees a pool shrink, or a spare"

    @invariant()
    def every_process_has_a_place_and_every_place_its_process(self) -> None:
        if not hasattr(self, "fleet"):
            return
        self.supervisor.validate()
        known = {(a, i.epoch) for a, child in self.supervisor.children.items() for i in child.incarnations()}
        assert known == self.live.keys()
        if not self.supervisor.adopting:
            self.fleet.validate(self.supervisor)

    def teardown(self) -> None:
        """Left alone, every pool has its size, and its spares are ready."""
        if not hasattr(self, "fleet"):
            return
        self.calm_down(130.0)
        for agent, spares in (("a", 1), ("b", 0)):
            size = self.fleet.size(agent, self.supervisor)
            assert (size.ready, size.starting, size.spares) == (size.target, 0, spares), agent
        self.do(self.supervisor.shutdown(5.0, self.now))
        self.calm_down(60.0)
        assert self.supervisor.all_stopped
        assert not self.live

    def calm_down(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            for _ in range(4):
                for process in sorted(self.live):
                    if process in self.live:
                        self.gets_on(process)
            self.time_passes(2.0)


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
