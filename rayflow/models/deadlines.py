"""When each phase of one model call must be over.

Our own timers, not the HTTP client's: they know what a token is, they never extend each other, and the request's
deadline shortens all of them. Only the connect limit is left to the transport, which alone sees that phase.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
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
    """Starts counting when it is made. `deadline_s`: the request's own limit in seconds, or None."""

    def __init__(self, limits: Timeouts, deadline_s: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        started = self._loop.time()
        self._total_s = limits.total_s if deadline_s is None else min(limits.total_s, max(deadline_s, 0.0))
        self._first_token_s = limits.first_token_s
        self._between_tokens_s = limits.between_tokens_s
        self._total_at = started + self._total_s
        self._first_token_at = started + limits.first_token_s

    async def within(self, phase: Phase, work: Awaitable[T], at_most_s: float = float("inf")) -> T:
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
        timer = asyncio.timeout_at(min(ends_at, now + at_most_s))
        try:
            async with timer:
                return await work
        except TimeoutError:
            if timer.expired():
                raise Late(phase, limit_s) from None
            raise  # a timeout of the transport's own
