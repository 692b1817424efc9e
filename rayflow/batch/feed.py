"""Items for many workers out of one file: read ahead in a thread, a small chunk at a time.

Reading and decoding would hold up the event loop, and with it the runs in flight; a chunk ends after a few items or a
mebibyte of text, so that memory stays bounded however large the file is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from rayflow.batch.items import BadItem, Item

CHUNK_ITEMS = 64
CHUNK_CHARS = 2**20


class Feed:
    """Hands out the items that are `wanted` (asked with the ordinal), each once, in order. For one event loop."""

    def __init__(self, items: Iterable[Item | BadItem], wanted: Callable[[int], bool]) -> None:
        self.skipped = 0
        self._items = iter(items)
        self._wanted = wanted
        self._ahead: deque[Item | BadItem] = deque()
        self._ended = False
        self._stopped = False
        self._reading = asyncio.Lock()

    @property
    def finished(self) -> bool:
        """Whether every wanted item of the input was handed out."""
        return self._ended and not self._ahead

    async def next(self) -> Item | BadItem | None:
        """The next item, or None at the end or after `stop`. Raises what reading raises."""
        async with self._reading:
            if not self._ahead and not self._ended and not self._stopped:
                await asyncio.to_thread(self._read)
        return self._ahead.popleft() if self._ahead and not self._stopped else None

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True

    def _read(self) -> None:
        chars = 0
        for item in self._items:
            if self._stopped:
                return
            if not self._wanted(item.ordinal):
                self.skipped += 1
                continue
            self._ahead.append(item)
            chars += sum(map(len, item.turns)) if isinstance(item, Item) else len(item.message)
            if len(self._ahead) >= CHUNK_ITEMS or chars >= CHUNK_CHARS:
                return
        self._ended = True
