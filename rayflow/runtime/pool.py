"""The replicas of one agent as a router sees them: who is there, how busy, and who waits.

Choice and reservation are one step, so two runs can never both take the last free place. A run that finds no place
waits in a bounded line and is served in order; when the line is full it is refused at once.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from rayflow.policies.balancing import least_busy


@dataclass(frozen=True, slots=True)
class Grant:
    """`ticket` may call `replica` now; `release` must follow exactly once."""

    ticket: str
    replica: str
    waited_s: float


class Pool:
    """All times are seconds of the caller's monotonic clock. `max_in_flight` is per replica."""

    def __init__(self, max_in_flight: int, max_queue: int) -> None:
        self.max_in_flight = max_in_flight
        self.max_queue = max_queue
        self._loads: dict[str, int] = {}
        self._leaving: dict[str, int] = {}
        self._waiting: OrderedDict[str, float] = OrderedDict()

    def members(self, replicas: Iterable[str], now: float, rng: random.Random) -> list[Grant]:
        """The pool's replicas are now these. Calls on those that left are still counted until they are released."""
        current = set(replicas)
        for replica in [r for r in self._loads if r not in current]:
            load = self._loads.pop(replica)
            if load:
                self._leaving[replica] = load
        for replica in sorted(current - self._loads.keys()):
            self._loads[replica] = self._leaving.pop(replica, 0)
        return self._serve(now, rng)

    def acquire(
        self, ticket: str, now: float, rng: random.Random, avoid: Collection[str] = ()
    ) -> Grant | Literal["queued", "refused"]:
        """A place now, or one in the line. `avoid`: replicas to take only where no other has room."""
        if not self._waiting:
            replica = self._elsewhere(avoid, rng) if avoid else None
            replica = replica or least_busy(self._loads, self.max_in_flight, rng)
            if replica is not None:
                self._loads[replica] += 1
                return Grant(ticket, replica, 0.0)
        if len(self._waiting) >= self.max_queue:
            return "refused"
        self._waiting[ticket] = now
        return "queued"

    def release(self, replica: str, now: float, rng: random.Random) -> list[Grant]:
        """A call ended, however it ended. Returns who may go next."""
        if replica in self._loads:
            self._loads[replica] -= 1
        elif replica in self._leaving:
            self._leaving[replica] -= 1
            if not self._leaving[replica]:
                del self._leaving[replica]
        return self._serve(now, rng)

    def abandon(self, ticket: str) -> None:
        """A waiting run gave up (deadline, cancellation)."""
        self._waiting.pop(ticket, None)

    @property
    def size(self) -> int:
        return len(self._loads)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        return sum(self._loads.values()) + sum(self._leaving.values())

    def _elsewhere(self, avoid: Collection[str], rng: random.Random) -> str | None:
        others = {replica: load for replica, load in self._loads.items() if replica not in avoid}
        return least_busy(others, self.max_in_flight, rng)

    def _serve(self, now: float, rng: random.Random) -> list[Grant]:
        grants = []
        while self._waiting:
            replica = least_busy(self._loads, self.max_in_flight, rng)
            if replica is None:
                break
            ticket, since = self._waiting.popitem(last=False)
            self._loads[replica] += 1
            grants.append(Grant(ticket, replica, now - since))
        return grants

    def validate(self) -> None:
        """Invariants, for tests: AssertionError where one does not hold."""
        assert all(0 <= load <= self.max_in_flight for load in self._loads.values()), self._loads
        assert all(load > 0 for load in self._leaving.values()), self._leaving
        assert not self._loads.keys() & self._leaving.keys()
        assert len(self._waiting) <= self.max_queue
        assert not self._waiting or all(load >= self.max_in_flight for load in self._loads.values())
