"""What is supervised, as data: groups of children, and how each is started, restarted and stopped."""

from __future__ import annotations

from dataclasses import dataclass, field

from rayflow.policies.restart import RestartPolicy, RestartType, Strategy


@dataclass(frozen=True, slots=True)
class Group:
    """Children that share a restart window, and by their `strategy` a fate. What OTP calls a supervisor.

    `phase` orders the start: its children are admitted when every group of an earlier phase is ready, and stopped when
    every group of a later one is down.
    """

    name: str
    phase: int
    strategy: Strategy = "one_for_one"
    policy: RestartPolicy = field(default_factory=RestartPolicy)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """`address` is its name on the fabric, `role` says what to build.

    `drain_s`: its shutdown budget; after that it is killed.
    `handover`: two of it may live side by side for a moment, so it can be replaced while it serves. An actor that is
    the only writer of a file cannot. `generation`: number of the configuration it is built from.
    """

    address: str
    role: str
    group: Group
    restart: RestartType = "permanent"
    drain_s: float = 30.0
    handover: bool = False
    generation: int = 1
