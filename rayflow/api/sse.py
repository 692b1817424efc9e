"""Server-sent events to one client.

The response starts with the first piece, so that a run which fails before it says anything still gets its own status;
a silent stream starts, and stays alive, by comment lines. A client that stops reading is given up: while the server
waits for it, its answer waits in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

import orjson
from starlette.types import Send

from rayflow.api.connection import Connection
from rayflow.api.problems import ClientGone, RawHeaders

SLOW_READER_S = 30.0
FAREWELL_S = 0.2
"""A closing connection is mostly closed after that."""
KEEPALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
]


def event(data: object, seq: int = 0) -> bytes:
    """One event with JSON data; `seq` becomes its id (0: none)."""
    return (b"id: %d\ndata: " % seq if seq else b"data: ") + orjson.dumps(data, default=str) + b"\n\n"


def since(after: int, events: bytes) -> bytes:
    """Of complete events, those that have no id, or a higher one than `after`."""
    new = [event for event in events.split(b"\n\n") if event and _id(event) not in range(1, after + 1)]
    return b"".join([event + b"\n\n" for event in new])


def _id(event: bytes) -> int:
    return int(event[4 : event.index(b"\n")]) if event.startswith(b"id: ") else 0


class EventStream:
    """An open response. `write` what is complete events only; call `drop(reason)` is made for a client that does not
    read. One task writes; the keep-alive comments in between are the stream's own."""

    def __init__(self, send: Send, keepalive_s: float, drop: Callable[[str], None], connection: Connection) -> None:
        self.started = False
        self._send = send
        self._keepalive_s = keepalive_s
        self._drop = drop
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._last_write = self._loop.time()
        self._blocked_since: float | None = None
        self._comment: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(min(keepalive_s, SLOW_READER_S), self._tick)

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._comment is not None:
            self._comment.cancel()

    async def write(self, events: bytes) -> None:
        """Raises `ClientGone` where they reached nobody."""
        await self._comment_written()
        if self.started and self._connection.write(events):
            self._last_write = self._loop.time()
        else:
            await self._put(events, more=True)
        await self._check()

    async def end(self, events: bytes) -> None:
        """Write the last events and end the response. Raises as `write` does."""
        await self._comment_written()
        await self._check()  # before, because afterwards the server itself may close the connection
        await self._put(events, more=False)

    async def _comment_written(self) -> None:
        """Until no comment is half written."""
        if self._comment is not None:
            await self._comment
            self._comment = None

    async def _check(self) -> None:
        if self._connection.gone:
            await asyncio.sleep(FAREWELL_S)  # whoever watches the connection hears of it in this time, and cancels us
            raise ClientGone("the client disconnected")

    async def _put(self, events: bytes, more: bool) -> None:
        self._blocked_since = self._loop.time()
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await self._send({"type": "http.response.body", "body": events, "more_body": more})
        self._last_write = self._loop.time()
        self._blocked_since = None

    def _tick(self) -> None:
        now = self._loop.time()
        if self._blocked_since is not None:
            due = self._blocked_since + SLOW_READER_S
            if now >= due:
                self._drop(f"the client read nothing for {SLOW_READER_S:.0f} s")
                return
        else:
            due = self._last_write + self._keepalive_s
            if now >= due:
                self._comment = self._loop.create_task(self._put(KEEPALIVE, more=True))
                due = now + self._keepalive_s
        self._timer = self._loop.call_at(min(due, now + SLOW_READER_S), self._tick)
