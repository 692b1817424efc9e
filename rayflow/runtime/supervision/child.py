"""A child is a post that outlives those who hold it: its incarnations, each a process of its own.

    booting -> joined -> starting -> ready -> stopping        an incarnation
    absent, waiting, parked, done, stopped, removed           a child that has none

Usually there is one incarnation. In a handover there are two: the successor boots while the current one serves, and
when it is ready the other one leaves. After the supervisor's own restart an incarnation is `adopting` until it shows
that it lives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from rayflow.runtime.supervision.specs import ChildSpec

Life = Literal["adopting", "booting", "joined", "starting", "ready", "stopping"]
Rest = Literal["absent", "waiting", "parked", "done", "stopped", "removed"]


@dataclass(slots=True, eq=False)
class Incarnation:
    """`since`: when it entered its state. `heard`: when it last showed a sign of life, while ready.

    `served`: it has been ready, so it may have work in flight. `stop_by`: when it is killed, while stopping.
    """

    spec: ChildSpec
    epoch: int
    state: Life
    since: float
    served: bool = False
    heard: float = 0.0
    stop_by: float = math.inf

    def to(self, state: Life, now: float) -> None:
        self.state, self.since = state, now
        if state == "ready":
            self.served, self.heard = True, now


@dataclass(slots=True, eq=False)
class Child:
    """`rest` says what it is without an incarnation, `due` when a waiting or parked one is started again.

    `fate`: what it will be when its present incarnation has ended; None while nobody wants that.
    `probation`: it was parked; another death within the period, and it is parked again.
    `detail`: why it, or its successor, died; empty when all is well.
    """

    spec: ChildSpec
    current: Incarnation | None = None
    successor: Incarnation | None = None
    leaving: list[Incarnation] = field(default_factory=list)
    rest: Rest = "absent"
    due: float = math.inf
    fate: Rest | None = None
    probation: bool = False
    restarts: int = 0
    died: float = 0.0
    detail: str = ""

    @property
    def state(self) -> Life | Rest:
        return self.current.state if self.current is not None else self.rest

    @property
    def epoch(self) -> int:
        return self.current.epoch if self.current is not None else 0

    @property
    def removed(self) -> bool:
        """Whether it is to be no more."""
        return "removed" in (self.rest, self.fate)

    @property
    def serves(self) -> bool:
        """Whether it takes messages; while it is to be adopted, that is assumed."""
        return self.current is not None and self.current.served and self.state in ("ready", "adopting")

    def incarnations(self) -> Iterator[Incarnation]:
        if self.current is not None:
            yield self.current
        if self.successor is not None:
            yield self.successor
        yield from self.leaving

    def fall(self, rest: Rest, due: float) -> None:
        """Become this: now, or when the present incarnation has ended."""
        self.due = due
        if self.current is None:
            self.rest = rest
        else:
            self.fate = rest
