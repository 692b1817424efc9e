"""A stage for supervisors: processes that exist only on paper, in virtual time."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rayflow.policies.restart import ExitReason, RestartPolicy, RestartType, Strategy
from rayflow.runtime.supervision.instructions import Instruction, Kill, Spawn, Stop
from rayflow.runtime.supervision.specs import ChildSpec, Group
from rayflow.runtime.supervision.supervisor import Supervisor

CALM = RestartPolicy(intensity=5, period_s=30.0, base_delay_s=0.0)
"""Restarts without waits."""


def group(
    *names: str,
    strategy: Strategy = "one_for_one",
    restart: RestartType = "permanent",
    policy: RestartPolicy = CALM,
    phase: int = 0,
    handover: bool = False,
) -> list[ChildSpec]:
    """Children `names` of one group, which is named after the first of them."""
    together = Group(names[0], phase, strategy, policy)
    return [ChildSpec(name, "role", together, restart, drain_s=10.0, handover=handover) for name in names]


@dataclass
class Theatre:
    """Does at once what the supervisor says: who is spawned joins and becomes ready, who is stopped or killed ends.

    `story`: all that happened, as short lines. `stubborn` children do not end when asked to, `broken` ones die as soon
    as they have joined, `absent` ones never join.
    """

    supervisor: Supervisor
    now: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    story: list[str] = field(default_factory=list)
    live: set[tuple[str, int]] = field(default_factory=set)
    stubborn: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    _todo: deque[Instruction] = field(default_factory=deque)
    _busy: bool = False

    def start(self) -> Theatre:
        self.do(self.supervisor.start(self.now))
        return self

    def do(self, instructions: Iterable[Instruction]) -> None:
        """One after another; whoever was let in becomes ready when nothing else is left to do."""
        self._todo += instructions
        if self._busy:
            return
        self._busy = True
        while self._todo or (starting := self._starting()):
            if self._todo:
                self._do(self._todo.popleft())
            else:
                self._becomes_ready(*starting)
            self.supervisor.validate()
        self._busy = False

    def exits(self, address: str, reason: ExitReason = "abnormal") -> None:
        """The present incarnation ends by itself."""
        child = self.supervisor.children[address]
        self._exit(address, child.epoch, reason)

    def passes(self, seconds: float) -> None:
        """Time goes by, a tenth of a second at a time."""
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.now += 0.1
            for address, epoch in sorted(self.live):
                self.do(self.supervisor.heard(address, epoch, self.now))
            for address, epoch, why in self.supervisor.overdue(self.now):
                self.do(self.supervisor.lost(address, epoch, why, self.now, self.rng))
            self.do(self.supervisor.tick(self.now))

    def states(self) -> dict[str, str]:
        return {address: child.state for address, child in self.supervisor.children.items()}

    def told(self) -> list[str]:
        """The story since this was asked last."""
        story, self.story = self.story, []
        return story

    def _do(self, instruction: Instruction) -> None:
        match instruction:
            case Spawn(spec, epoch):
                self.story.append(f"spawn {spec.address}")
                self.live.add((spec.address, epoch))
                if spec.address not in self.absent:
                    self.do(self.supervisor.joined(spec.address, epoch, self.now))
            case Stop(address, epoch):
                self.story.append(f"stop {address}")
                if address not in self.stubborn:
                    self._exit(address, epoch, "normal")
            case Kill(address, epoch):
                self.story.append(f"kill {address}")
                self._exit(address, epoch, "abnormal")

    def _starting(self) -> tuple[str, int] | None:
        for address, child in self.supervisor.children.items():
            for incarnation in child.incarnations():
                if incarnation.state == "starting":
                    return address, incarnation.epoch
        return None

    def _becomes_ready(self, address: str, epoch: int) -> None:
        if address in self.broken:
            self._exit(address, epoch, "abnormal")
        else:
            self.story.append(f"ready {address}")
            self.do(self.supervisor.ready(address, epoch, self.now))

    def _exit(self, address: str, epoch: int, reason: ExitReason) -> None:
        self.live.discard((address, epoch))
        self.do(self.supervisor.exited(address, epoch, reason, "it died", self.now, self.rng))


def theatre(*specs: ChildSpec) -> Theatre:
    """A theatre in which all these children are ready, and nothing has been told yet."""
    made = Theatre(Supervisor(specs)).start()
    assert made.supervisor.all_ready, made.states()
    made.told()
    return made
