"""Asks that wait for their replies, all under one timer.

A timer of its own would be a tenth of what an ask costs. Nearly all asks are answered long before their deadline, so
one timer, set to the earliest deadline there was, almost never has anything to do when it fires: it then looks for the
next earliest.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from rayflow.errors import DeadlineExceeded, WorkflowError
from rayflow.messages import Payload

RESOLUTION_S = 0.001
"""Of the loop's timers."""


class Pending:
    """Numbers asks, and keeps the future of each reply with its deadline and what to say when that has passed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asks: dict[int, tuple[asyncio.Future[Payload], float, str, float]] = {}
        self._last = 0
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._asks)

    def add(self, to: str, timeout_s: float) -> tuple[int, asyncio.Future[Payload]]:
        """A new ask. Its future ends with the reply, `DeadlineExceeded`, or the error of `fail`."""
        self._last = number = self._last + 1
        reply: asyncio.Future[Payload] = self._loop.create_future()
        until = self._loop.time() + timeout_s
        self._asks[number] = reply, until, to, timeout_s
        if until < self._due:
            self._set(until)
        return number, reply

    def answer(self, number: int, message: Payload) -> None:
        """An answer to an ask that waits no more is ignored."""
        ask = self._asks.pop(number, None)
        if ask is not None and not ask[0].done():
            ask[0].set_result(message)

    def forget(self, number: int) -> bool:
        """Whoever asked gave up. False: it was answered."""
        return self._asks.pop(number, None) is not None

    def fail(self, error: Callable[[], WorkflowError]) -> None:
        """None of them will be answered."""
        if self._timer is not None:
            self._timer.cancel()
        asks, self._asks = self._asks, {}
        for reply, *_ in asks.values():
            if not reply.done():
                reply.set_exception(error())

    def _set(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = until
        self._timer = self._loop.call_at(until, self._expire)

    def _expire(self) -> None:
        self._timer, self._due = None, math.inf
        past, earliest = self._loop.time() + RESOLUTION_S, math.inf
        for reply, until, to, timeout_s in self._asks.values():
            if until > past:
                earliest = min(earliest, until)
            elif not reply.done():
                reply.set_exception(DeadlineExceeded(f"{to} did not answer within {timeout_s:.3g} s", address=to))
        if earliest < math.inf:
            self._set(earliest)
