"""The coordinator's knowledge as a state machine: which children there should be, which there are, what to do next.

Events (`joined`, `ready`, `lost`, ...) come in with `now`; instructions (`Spawn`, `Admit`, `Stop`) come out, and the
coordinator actor carries them out. Children are specs as data. They start in phases: all processes are spawned at once,
because booting is what takes time, but a child is admitted (told what to be) only when every earlier phase is ready.
They stop in reverse.

    absent -> booting -> joined -> starting -> ready -> stopping -> stopped
                 \\________\\__________\\_________\\-> waiting (for its restart) -> booting
                                                  \\-> parked
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from rayflow.policies.restart import RestartPolicy, decide

ChildState = Literal["absent", "booting", "joined", "starting", "ready", "waiting", "stopping", "stopped", "parked"]

UP: frozenset[ChildState] = frozenset({"booting", "joined", "starting", "ready", "stopping"})
"""States in which a process exists."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """`address` is its name on the fabric, `role` says what to build, `phase` orders the start."""

    address: str
    role: str
    phase: int
    restart: RestartPolicy = field(default_factory=RestartPolicy)


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process of this child, `delay_s` from now, as this incarnation."""

    spec: ChildSpec
    epoch: int
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Admit:
    """Answer the child's `Join`: it may build itself now."""

    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the child to drain and end."""

    address: str


Instruction = Spawn | Admit | Stop


@dataclass(slots=True)
class Child:
    spec: ChildSpec
    state: ChildState = "absent"
    epoch: int = 0
    since: float = 0.0
    deaths: list[float] = field(default_factory=list)
    detail: str = ""
    heard: float = 0.0
    """When it last showed that it is alive, while ready."""

    @property
    def restarts(self) -> int:
        return max(0, self.epoch - 1)


class Supervisor:
    def __init__(self, specs: Iterable[ChildSpec]) -> None:
        self.children = {spec.address: Child(spec) for spec in specs}
        self.stopping = False
        self._gated = True

    def start(self, now: float) -> list[Instruction]:
        return [self._spawn(child, now) for child in self.children.values()]

    def joined(self, address: str, epoch: int, now: float) -> list[Instruction]:
        """A child's process listens. A late message of an older incarnation changes nothing."""
        child = self._current(address, epoch)
        if child is None or child.state != "booting":
            return []
        self._to(child, "joined", now)
        return self._admit(now)

    def ready(self, address: str, epoch: int, now: float) -> list[Instruction]:
        child = self._current(address, epoch)
        if child is None or child.state != "starting":
            return []
        self._to(child, "ready", now)
        child.heard = now
        child.detail = ""
        return self._admit(now)

    def lost(self, address: str, epoch: int, reason: str, now: float, rng: random.Random) -> list[Instruction]:
        """A child's process is gone."""
        child = self._current(address, epoch)
        if child is None or child.state not in UP:
            return []
        if self.stopping or child.state == "stopping":
            self._to(child, "stopped", now)
            return self._stop_next(now) if self.stopping else []
        child.detail = reason
        child.deaths.append(now)
        del child.deaths[: -child.spec.restart.intensity - 1]
        delay_s = decide(child.deaths, child.spec.restart, now, rng)
        if delay_s is None:
            self._to(child, "parked", now)
            return self._admit(now)
        self._to(child, "waiting", now)
        return [self._spawn(child, now, delay_s)]

    def heard(self, address: str, epoch: int, now: float) -> None:
        """A child answered a heartbeat."""
        child = self._current(address, epoch)
        if child is not None:
            child.heard = now

    def silent(self, limit_s: float, now: float) -> list[tuple[str, int]]:
        """(address, epoch) of the ready children that have not been heard for longer than `limit_s`: they hang."""
        return [
            (address, child.epoch)
            for address, child in self.children.items()
            if child.state == "ready" and now - child.heard > limit_s
        ]

    def excuse(self, now: float) -> None:
        """We ourselves were away (stopped, starved), so nobody's silence means anything: begin to listen anew."""
        for child in self.children.values():
            child.heard = max(child.heard, now)

    def spawning(self, address: str, epoch: int, now: float) -> bool:
        """A delayed spawn is due. False when it is no longer wanted."""
        child = self._current(address, epoch)
        if child is None or self.stopping or child.state not in ("waiting", "booting"):
            return False
        self._to(child, "booting", now)
        return True

    def shutdown(self, now: float) -> list[Instruction]:
        """Stop everything, last phase first. Children that have no process count as stopped."""
        self.stopping = True
        for child in self.children.values():
            if child.state not in UP:
                self._to(child, "stopped", now)
        return self._stop_next(now)

    @property
    def all_ready(self) -> bool:
        return all(child.state == "ready" for child in self.children.values())

    @property
    def all_stopped(self) -> bool:
        return all(child.state == "stopped" for child in self.children.values())

    def _spawn(self, child: Child, now: float, delay_s: float = 0.0) -> Spawn:
        child.epoch += 1
        if delay_s == 0:
            self._to(child, "booting", now)
        return Spawn(child.spec, child.epoch, delay_s)

    def _admit(self, now: float) -> list[Instruction]:
        """Everyone who has joined and whose earlier phases are ready may go on. Once the whole system has been up, the
        order no longer matters: a pool that heals does not wait for another."""
        pending = [c.spec.phase for c in self.children.values() if c.state not in ("ready", "parked")]
        self._gated = self._gated and bool(pending)
        admitted = [
            c
            for c in self.children.values()
            if c.state == "joined" and not (self._gated and c.spec.phase > min(pending))
        ]
        for child in admitted:
            self._to(child, "starting", now)
        return [Admit(child.spec.address, child.epoch) for child in admitted]

    def _stop_next(self, now: float) -> list[Instruction]:
        """The highest phase that still runs; the ones before it wait until it is down."""
        up = [child for child in self.children.values() if child.state in UP]
        highest = max((child.spec.phase for child in up), default=0)
        stops = [child for child in up if child.spec.phase == highest and child.state != "stopping"]
        for child in stops:
            self._to(child, "stopping", now)
        return [Stop(child.spec.address) for child in stops]

    def _current(self, address: str, epoch: int) -> Child | None:
        child = self.children.get(address)
        return child if child is not None and child.epoch == epoch else None

    def _to(self, child: Child, state: ChildState, now: float) -> None:
        child.state, child.since = state, now
