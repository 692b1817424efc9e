"""The two ends of a stream, and the credit between them.

The writer may have a window of items, and of bytes, under way that the reader has not taken; whoever reads gives credit
back, half a window at a time. So a reader that stops makes its writer stop, and nothing in between grows. An item may
be larger than the rest of the window: it then is the last until the reader has taken it.

The ends know nothing of connections: a `Wire` carries what they say.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from rayflow.errors import Cancelled, DeadlineExceeded, FrameInvalid, WorkflowError, from_info
from rayflow.messages import Payload

log = logging.getLogger(__name__)

WINDOW_ITEMS = 256
WINDOW_BYTES = 256 << 10
READER_CLOSED = "the reader closed the stream"


class Wire(Protocol):
    """What connects the two ends; `number` is that of the stream."""

    def item(self, number: int, item: Payload) -> int:
        """Send it on. Returns its size in bytes, which the reader will see too."""
        ...

    def end(self, number: int) -> None: ...

    def credit(self, number: int, items: int, size: int) -> None: ...

    def close(self, number: int, error: WorkflowError) -> None: ...


class StreamOutlet:
    """The writing end. `until`: loop time by which whoever opened it must be done; None: any."""

    __slots__ = ("_bytes", "_callbacks", "_closed", "_error", "_items", "_number", "_until", "_waiter", "_wire")

    def __init__(self, wire: Wire, number: int, until: float | None = None) -> None:
        self._wire = wire
        self._number = number
        self._until = until
        self._items = WINDOW_ITEMS
        self._bytes = WINDOW_BYTES
        self._closed = False
        self._error: WorkflowError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._callbacks: list[Callable[[], None]] = []

    # --- for the writer ---

    @property
    def ready(self) -> bool:
        return self._items > 0 and self._bytes > 0

    @property
    def lost(self) -> bool:
        return self._error is not None

    def offer(self, item: Payload) -> bool:
        if self._items <= 0 or self._bytes <= 0:
            return False
        self._bytes -= self._wire.item(self._number, item)
        self._items -= 1
        return True

    async def send(self, item: Payload) -> None:
        while not self.offer(item):
            if self._error is not None:
                raise from_info(self._error.to_info())
            if self._closed:
                raise Cancelled("this stream was closed by its writer")
            try:
                async with asyncio.timeout_at(self._until):
                    await self.room()
            except TimeoutError:
                raise DeadlineExceeded("the reader of a stream did not keep up within the deadline") from None

    async def room(self) -> None:
        while not (self.ready or self.lost or self._closed):
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiter)

    def on_lost(self, callback: Callable[[], None]) -> None:
        if self.lost:
            callback()
        else:
            self._callbacks.append(callback)

    def close(self) -> None:
        if not self._closed and not self.lost:
            self._stop()
            self._closed = True
            self._wire.end(self._number)

    # --- for the connection ---

    def grant(self, items: int, size: int) -> None:
        """The reader took so much. Raises `FrameInvalid` where it had not been sent."""
        if self._closed or self.lost:
            return
        if self._items + items > WINDOW_ITEMS or self._bytes + size > WINDOW_BYTES:
            raise FrameInvalid(f"credit of {items} items, {size} bytes goes beyond the window of a stream")
        self._items += items
        self._bytes += size
        if self.ready:
            self._wake()

    def lose(self, error: WorkflowError) -> None:
        """The reader is gone."""
        if not self._closed and not self.lost:
            self._error = error
            self._stop()
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                try:
                    callback()
                except Exception:
                    log.exception("the writer of a stream failed to hear that its reader is gone")

    def _stop(self) -> None:
        self._items = 0
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(None)


class StreamInlet:
    """The reading end."""

    __slots__ = (
        "_callback", "_closed", "_ended", "_error", "_held", "_held_bytes", "_number", "_sizes",
        "_space_bytes", "_space_items", "_taken_bytes", "_taken_items", "_waiter", "_wire",
    )  # fmt: skip

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire = wire
        self._number = number
        self._held: deque[Payload] = deque()
        self._sizes: deque[int] = deque()
        self._held_bytes = 0
        self._space_items = WINDOW_ITEMS
        self._space_bytes = WINDOW_BYTES
        self._taken_items = 0
        self._taken_bytes = 0
        self._ended = False
        self._closed = False
        self._error: WorkflowError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._callback: Callable[[], None] | None = None

    # --- for the reader ---

    def __aiter__(self) -> StreamInlet:
        return self

    async def __anext__(self) -> Any:
        while not self._held:
            if self._error is not None:
                raise from_info(self._error.to_info())
            if self._ended or self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        size = self._sizes.popleft()
        self._held_bytes -= size
        item = self._held.popleft()
        self._took(1, size)
        return item

    @property
    def ended(self) -> bool:
        return self._ended and not self._held

    def take(self) -> list[Any]:
        held = self._held
        if not held:
            if self._error is not None:
                raise from_info(self._error.to_info())
            return []
        items: list[Any] = list(held)
        size, self._held_bytes = self._held_bytes, 0
        held.clear()
        self._sizes.clear()
        self._took(len(items), size)
        return items

    def on_readable(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        if self._held or self._over:
            self._notify()

    def close(self) -> None:
        if not self._over:
            self._wire.close(self._number, Cancelled(READER_CLOSED))
        self._closed = True
        self._held.clear()
        self._sizes.clear()
        self._held_bytes = 0
        self._notify()

    # --- for the connection ---

    def arrive(self, item: Payload, size: int) -> None:
        """Raises `FrameInvalid` for an item without credit."""
        if self._over:
            return
        if self._space_items <= 0 or self._space_bytes <= 0:
            raise FrameInvalid("an item beyond the credit of its stream")
        self._space_items -= 1
        self._space_bytes -= size
        self._held_bytes += size
        self._sizes.append(size)
        self._held.append(item)
        if len(self._held) == 1:
            self._notify()

    def end(self) -> None:
        """The writer closed the stream."""
        if not self._over:
            self._ended = True
            self._notify()

    def lose(self, error: WorkflowError) -> None:
        """The writer is gone."""
        if not self._over:
            self._error = error
            self._notify()

    @property
    def _over(self) -> bool:
        return self._ended or self._closed or self._error is not None

    def _took(self, items: int, size: int) -> None:
        self._taken_items += items
        self._taken_bytes += size
        if (2 * self._taken_items >= WINDOW_ITEMS or 2 * self._taken_bytes >= WINDOW_BYTES) and not self._over:
            self._space_items += self._taken_items
            self._space_bytes += self._taken_bytes
            self._wire.credit(self._number, self._taken_items, self._taken_bytes)
            self._taken_items = self._taken_bytes = 0

    def _notify(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None
        if self._callback is not None and not self._closed:
            try:
                self._callback()
            except Exception:
                log.exception("the reader of a stream failed; the stream is closed")
                self.close()
