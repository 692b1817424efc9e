"""What a thread reads ahead of those who work on an event loop, a small chunk at a time.

Reading and decoding would hold up the loop, and with it the runs in flight. The next chunk is read while the last one
is used; a chunk ends after a few entries or a mebibyte, so that memory is bounded however large the input is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

CHUNK_ENTRIES = 64
CHUNK_SIZE = 2**20

T = TypeVar("T")


class Ahead(Generic[T]):
    """Hands out what `entries` yields, each once, in order, to one reader on an event loop, until `halted` is set.
    `size`: of an entry, in characters."""

    def __init__(self, entries: Generator[T], size: Callable[[T], int], halted: asyncio.Event) -> None:
        self._entries = entries
        self._size = size
        self._halted = halted
        self._ready: deque[T] = deque()
        self._reading: asyncio.Task[list[T]] | None = None
        self._ended = False

    async def next(self) -> T | None:
        """The next entry, or None at the end and when it was halted. Raises what reading raises."""
        if not self._ready and not self._ended:
            reading = self._begin()
            halted = asyncio.create_task(self._halted.wait())
            try:
                await asyncio.wait([reading, halted], return_when=asyncio.FIRST_COMPLETED)
            finally:
                halted.cancel()
            if not reading.done():
                return None
            self._reading = None
            self._ready.extend(reading.result())
            self._ended = not self._ready
            if self._ready:
                self._begin()
        return self._ready.popleft() if self._ready else None

    async def close(self) -> None:
        """Wait until the thread does nothing more."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
            self._reading.exception()  # nobody needs it any more
        self._entries.close()

    def _begin(self) -> asyncio.Task[list[T]]:
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._chunk))
        return self._reading

    def _chunk(self) -> list[T]:
        chunk: list[T] = []
        size = 0
        for entry in self._entries:
            chunk.append(entry)
            size += self._size(entry)
            if len(chunk) == CHUNK_ENTRIES or size >= CHUNK_SIZE:
                break
        return chunk
