"""What scaling looks at, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Load:
    """One pool at one moment, over all routers.

    `ready`: replicas that take calls. `starting`: replicas that were ordered and do not yet. `oldest_s`: how long the
    call that has waited longest has waited. Totals that only grow: `arrived` calls, `finished` calls, and `response_s`,
    the seconds that the finished ones took, waiting included.
    """

    ready: int
    starting: int = 0
    in_flight: int = 0
    waiting: int = 0
    oldest_s: float = 0.0
    arrived: int = 0
    finished: int = 0
    response_s: float = 0.0

    @property
    def size(self) -> int:
        """Replicas that there are or will be shortly."""
        return self.ready + self.starting

    @property
    def concurrency(self) -> int:
        """Calls that are there, worked on or waiting."""
        return self.in_flight + self.waiting


@dataclass(frozen=True, slots=True)
class Target:
    """So many replicas there should be, and why, in words for the event log."""

    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class Need:
    """What a strategy makes of the load, in replicas, limits aside.

    `replicas`: a smaller pool grows to this. `keep`: a larger pool shrinks to this; it lies above `replicas` by the
    noise of the load, so that noise alone never makes a pool grow and shrink in turns.
    """

    replicas: float
    keep: float
    reason: str


class Strategy(Protocol):
    """Called by the scaler every `interval_s`, with a clock that never goes back. Must not block. A policy of one's own
    may return a plain number instead; when it raises, `queue_depth` decides."""

    def __call__(self, load: Load, now: float) -> Need | Target | int: ...
