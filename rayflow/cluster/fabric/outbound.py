"""Frames on their way out of a connection.

What is sent in one turn of the event loop leaves in one system call. While the peer does not keep up, frames wait here
and not in the transport, so that a cancellation can overtake them, and the oldest go on as soon as there is room.
Nothing here grows without end: who asks waits, told messages are dropped, and a peer that makes even replies pile up is
given up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

MAX_UNSENT_BYTES = 64 << 20
"""A peer that lets this much pile up is not reading: the connection is dropped rather than memory filled."""
MAX_TOLD_BYTES = 4 << 20
"""Told messages that may wait for a peer that does not keep up."""
WRITE_BYTES = 256 << 10
"""Most that is handed to the transport at once."""


class Outbound:
    """`overflow` is called when more than `MAX_UNSENT_BYTES` wait."""

    def __init__(self, overflow: Callable[[], None]) -> None:
        self.frames = 0
        self.bytes = 0
        self.dropped = 0
        self.writable: asyncio.Future[None] | None = None
        """Who may wait, waits for this; None while the peer keeps up. Frames sent before the connection is open need
        not wait: there is none yet that could be slow."""
        self._overflow = overflow
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._turn: list[bytes] = []
        self._scheduled = False
        self._blocked = True
        self._paused = False
        self._gone = False
        self._urgent: list[bytes] = []
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._waiting_bytes = 0
        self._told_bytes = 0
        self._stalled_since: float | None = None
        self._stalled_s = 0.0

    @property
    def queued_bytes(self) -> int:
        """Sent by the actors, not yet taken by the system."""
        in_transport = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._waiting_bytes + in_transport

    @property
    def stalled_s(self) -> float:
        """How long, in all, the peer did not keep up."""
        now = self._loop.time()
        return self._stalled_s + (now - self._stalled_since if self._stalled_since is not None else 0.0)

    # --- for the connection ---

    def send(self, frame: bytes) -> None:
        if self._blocked:
            self._hold(frame)
            return
        self._turn.append(frame)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def tell(self, frame: bytes) -> None:
        """Send, or drop when too much of the kind waits already."""
        if not self._blocked:
            self.send(frame)
        elif self._told_bytes + len(frame) > MAX_TOLD_BYTES:
            self.dropped += 1
        else:
            self._told_bytes += len(frame)
            self._hold(frame, told=True)

    def overtake(self, frame: bytes) -> None:
        """Send before everything that waits."""
        if self._blocked:
            self._urgent.append(frame)
        else:
            self.send(frame)

    def withdraw(self, frame: bytes) -> bool:
        """Take back a frame that waits still. False: it is gone, or about to be."""
        for each in self._waiting:
            if each[0] is frame:
                self._waiting.remove(each)
                self._waiting_bytes -= len(frame)
                return True
        return False

    # --- life ---

    def open(self, transport: asyncio.WriteTransport) -> None:
        """The connection may carry messages now."""
        self._transport = transport
        self._pump()

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._paused = True
        self._block()
        if self.writable is None:
            self.writable = self._loop.create_future()
            self._stalled_since = self._loop.time()

    def resume(self) -> None:
        self._paused = False
        self._pump()

    def finish(self) -> None:
        """Hand everything to the transport, which is about to be closed, however much it is."""
        self._block()
        if self._transport is not None:
            while self._urgent or self._waiting:
                self._write(self._next())

    def drop(self) -> None:
        """The connection is gone, and all that waited with it. Nobody waits any more."""
        self._gone = self._blocked = True
        self._transport = None
        self._turn.clear()
        self._urgent.clear()
        self._waiting.clear()
        self._waiting_bytes = self._told_bytes = 0
        self._release()

    # --- inside ---

    def _flush(self) -> None:
        self._scheduled = False
        frames = self._turn
        if not frames or self._transport is None:
            return
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if len(data) <= WRITE_BYTES:
            self.frames += len(frames)
            frames.clear()
            self._write(data)
        else:
            self._block()
            self._pump()

    def _block(self) -> None:
        """From here on frames wait: first those of this turn."""
        self._blocked = True
        turn, self._turn = self._turn, []
        for frame in turn:
            self._hold(frame)

    def _hold(self, frame: bytes, told: bool = False) -> None:
        if self._gone:
            return
        self._waiting.append((frame, told))
        self._waiting_bytes += len(frame)
        if self._waiting_bytes > MAX_UNSENT_BYTES and len(self._waiting) > 1:
            self._overflow()

    def _pump(self) -> None:
        """Hand over what waits, as much as the transport likes."""
        while (self._urgent or self._waiting) and not self._paused and self._transport is not None:
            self._write(self._next())
        if self._transport is not None and not self._paused:
            self._blocked = False
            self._release()

    def _next(self) -> bytes:
        batch, self._urgent = self._urgent, []
        size = 0
        while self._waiting and size < WRITE_BYTES:
            frame, told = self._waiting.popleft()
            batch.append(frame)
            size += len(frame)
            if told:
                self._told_bytes -= len(frame)
        self._waiting_bytes -= size
        self.frames += len(batch)
        return b"".join(batch)

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self.bytes += len(data)
        self._transport.write(data)

    def _release(self) -> None:
        if self.writable is not None:
            self.writable.set_result(None)
            self.writable = None
        if self._stalled_since is not None:
            self._stalled_s += self._loop.time() - self._stalled_since
            self._stalled_since = None
