"""Feeders are there while a job asks for them, as many as the job wants that wants most."""

from __future__ import annotations

from rayflow.config.schema import WorkflowConfig
from rayflow.runtime.supervision.feeders import KEEP_S, Feeders
from rayflow.runtime.supervision.instructions import Instruction, Spawn, Stop
from rayflow.runtime.supervision.supervisor import Supervisor

CONFIG = WorkflowConfig.model_validate({"name": "team", "agents": [{"name": "a"}]})


class Floor:
    def __init__(self) -> None:
        self.supervisor, self.feeders = Supervisor(), Feeders()

    def settle(self, now: float, *, steady: bool = True) -> list[Instruction]:
        return self.feeders.settle(self.supervisor, CONFIG, 1, now, steady=steady)

    def up(self, now: float) -> None:
        for instruction in self.settle(now):
            assert isinstance(instruction, Spawn)
            address, epoch = instruction.spec.address, instruction.epoch
            self.supervisor.joined(address, epoch, now)
            self.supervisor.ready(address, epoch, now)


def test_nothing_runs_where_no_job_asks() -> None:
    assert Floor().settle(0.0) == []


def test_there_are_as_many_as_the_job_wants_that_wants_most() -> None:
    floor = Floor()
    floor.feeders.wish("a", 2, 0.0)
    floor.feeders.wish("b", 3, 0.0)
    floor.up(0.0)
    assert list(floor.supervisor.children) == ["feeder/0", "feeder/1", "feeder/2"]
    assert floor.settle(1.0) == []
    floor.feeders.wish("b", 0, 2.0)
    assert [each.address for each in floor.settle(2.0) if isinstance(each, Stop)] == ["feeder/2"]


def test_those_of_a_job_that_is_silent_end() -> None:
    floor = Floor()
    floor.feeders.wish("a", 2, 0.0)
    floor.up(0.0)
    floor.feeders.wish("a", 2, KEEP_S - 1)
    assert floor.settle(KEEP_S + 1) == []
    assert len(floor.settle(2 * KEEP_S)) == 2


def test_those_that_an_earlier_coordinator_left_are_kept_until_their_jobs_could_ask_again() -> None:
    floor = Floor()
    floor.feeders.wish("a", 2, 0.0)
    floor.up(0.0)
    floor.feeders = Feeders()
    floor.feeders.found(floor.supervisor, 100.0)
    assert floor.settle(100.0, steady=False) == [] == floor.settle(101.0)
    assert len(floor.settle(100.0 + KEEP_S)) == 2


def test_a_system_that_stops_starts_none() -> None:
    floor = Floor()
    floor.supervisor.shutdown(1.0, 0.0)
    floor.feeders.wish("a", 2, 0.0)
    assert floor.settle(0.0) == []
