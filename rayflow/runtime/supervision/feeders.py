"""Feeders of batch jobs: children that come and go with the jobs that ask for them.

As many are kept as the job wants that wants most, and all jobs share them. A job says so again and again; one that is
silent for `KEEP_S` has died, and its feeders end. So nothing of this needs to be on record: after a change of the
coordinator those that are there are kept until their jobs have had the time to ask again. Pure.
"""

from __future__ import annotations

from rayflow.config.schema import WorkflowConfig
from rayflow.runtime.roster import FEEDER, child_spec, feeder_address
from rayflow.runtime.supervision.instructions import Instruction
from rayflow.runtime.supervision.supervisor import Supervisor

KEEP_S = 10.0
_FOUND = ""
"""Stands for the jobs of those who were found."""


class Feeders:
    """`wish` says how many a job needs, `settle` brings children nearer to that."""

    def __init__(self) -> None:
        self._wishes: dict[str, tuple[int, float]] = {}

    def wish(self, job_id: str, number: int, now: float) -> None:
        """A job needs so many for the next seconds."""
        self._wishes[job_id] = number, now + KEEP_S

    def found(self, supervisor: Supervisor, now: float) -> None:
        """An earlier coordinator left these; whoever they are for is going to say so."""
        self.wish(_FOUND, max((int(a.partition("/")[2]) + 1 for a in _there(supervisor)), default=0), now)

    def settle(
        self, supervisor: Supervisor, config: WorkflowConfig, generation: int, now: float, *, steady: bool
    ) -> list[Instruction]:
        """`steady`: nobody else adds and removes children at the moment, and whoever there is has been found."""
        if not steady or supervisor.stopping:
            return []
        self._wishes = {job: wish for job, wish in self._wishes.items() if wish[0] and now < wish[1]}
        wanted = [feeder_address(i) for i in range(max((number for number, _ in self._wishes.values()), default=0))]
        done: list[Instruction] = []
        for address in wanted:
            if address not in supervisor.children:
                done += supervisor.add(child_spec(config, address, generation), now)
        for address in _there(supervisor):
            if address not in wanted:
                done += supervisor.remove(address, now)
        return done


def _there(supervisor: Supervisor) -> list[str]:
    return [a for a, child in supervisor.children.items() if child.spec.role == FEEDER and not child.removed]
