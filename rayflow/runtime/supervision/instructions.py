"""What the supervisor wants done. Whoever carries it out does so in this order for one address, and reports what comes
of it: `joined`, `ready`, `exited`."""

from __future__ import annotations

from dataclasses import dataclass

from rayflow.runtime.supervision.specs import ChildSpec


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process as this incarnation of the child.

    `attempt`: number of the restart, 0 for a start that no death led to; `delay_s`: how long the restart was held back.
    """

    spec: ChildSpec
    epoch: int
    attempt: int = 0
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the incarnation to finish what it has in flight, within the budget, and to end."""

    address: str
    epoch: int
    budget_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """End the incarnation now. Nothing happens where it is dead already."""

    address: str
    epoch: int


Instruction = Spawn | Stop | Kill
