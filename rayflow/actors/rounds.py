"""When the streams of a replica are read: in rounds, all of them together (`policies.pacing`)."""

from __future__ import annotations

import asyncio

from rayflow.clock import Clock
from rayflow.policies.pacing import rest_s


class Rounds:
    """One timer wakes all streams of a round: a timer for each would wake the process several times."""

    def __init__(self, flush_s: float, clock: Clock) -> None:
        self._flush_s = flush_s
        self._clock = clock
        self._began = clock.now()
        self._waiting: list[asyncio.Future[None]] = []

    def after(self, streams: int) -> asyncio.Future[None] | None:
        """The next round, to be awaited by one stream of so many; None where they need not rest."""
        pause_s = rest_s(streams, self._flush_s, self._clock.now() - self._began)
        if not pause_s:
            return None
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(pause_s, self._begin)
        waiter = loop.create_future()
        self._waiting.append(waiter)
        return waiter

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
