"""When each phase of one model call must be over.

Our own timers, not the HTTP client's: they know what a token is, they never extend each other, and the request's
deadline shortens all of them. Only the connect limit is left to the transport, which alone sees that phase.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from math import inf
from typing import Literal, TypeVar

from rayflow.config.schema import Timeouts

Phase = Literal["first_token", "between_tokens", "total"]
T = TypeVar("T")


class Late(Exception):
    """A phase took longer than its limit."""

    def __init__(self, phase: Phase, limit_s: float) -> None:
        super().__init__(f"{_PHASES[phase]} {limit_s:g} s")
        self.phase = phase


_PHASES: dict[Phase, str] = {
    "first_token": "no first token within",
    "between_tokens": "the stream was silent for",
    "total": "not finished within",
}


class Deadlines:
    """Starts counting when it is made. `deadline_s`: the request's own limit in seconds, or None.

    One timer serves a whole call: a token only moves the time at which it is due, and the timer looks at that when it
    goes off. A timer per token would cost more than the token.
    """

    def __init__(self, limits: Timeouts, deadline_s: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        started = self._loop.time()
        self._total_s = limits.total_s if deadline_s is None else min(limits.total_s, max(deadline_s, 0.0))
        self._first_token_s = limits.first_token_s
        self._between_tokens_s = limits.between_tokens_s
        self._total_at = started + self._total_s
        self._first_token_at = started + limits.first_token_s
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf
        self._waiting: asyncio.Task[object] | None = None
        self._expired = False

    async def within(self, phase: Phase, work: Awaitable[T], at_most_s: float = inf) -> T:
        """Await `work` for as long as `phase` allows, and never longer than `at_most_s`. Raises `Late`."""
        now = self._loop.time()
        match phase:
            case "first_token":
                ends_at, limit_s = self._first_token_at, self._first_token_s
            case "between_tokens":
                ends_at, limit_s = now + self._between_tokens_s, self._between_tokens_s
            case "total":
                ends_at, limit_s = self._total_at, self._total_s
        if self._total_at < ends_at:
            phase, ends_at, limit_s = "total", self._total_at, self._total_s
        task = self._waiting = asyncio.current_task()
        self._expect(min(ends_at, now + at_most_s))
        try:
            return await work
        except asyncio.CancelledError:
            if self._expired and task is not None and task.uncancel() == 0:
                raise Late(phase, limit_s) from None
            raise
        finally:
            self._due, self._waiting, self._expired = inf, None, False

    def close(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self, due: float) -> None:
        self._due = due
        if self._timer is None or self._timer.when() > due:
            self.close()
            self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
        else:
            self._expired = True
            self._waiting.cancel()
