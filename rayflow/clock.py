"""Time as an argument.

Deadlines, timers and rates use the monotonic clock; only records use the wall clock. Policies and state machines never
read either: their callers pass `now`. Tests and the simulator pass a `ManualClock`.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds on a clock that never goes back; meaningless outside this process."""
        ...

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch, UTC: for records only."""
        ...


class SystemClock:
    __slots__ = ()

    def now(self) -> float:
        return time.monotonic()

    def wall_us(self) -> int:
        return time.time_ns() // 1000


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 0.0, wall_us: int = 1_700_000_000_000_000) -> None:
        self._now = now
        self._wall_us = wall_us

    def now(self) -> float:
        return self._now

    def wall_us(self) -> int:
        return self._wall_us

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._wall_us += round(seconds * 1e6)


SYSTEM_CLOCK = SystemClock()

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""Monotonic time by which the current handler's caller stops waiting; None where nobody waits. Set by the fabric."""


def remaining_s(now: float, limit_s: float) -> float:
    """Seconds the current handler may still take: `limit_s`, or less when its caller gives less."""
    until = deadline.get()
    return limit_s if until is None else min(limit_s, until - now)
