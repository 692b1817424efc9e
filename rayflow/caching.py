"""Caches in the memory of a process: bounded, least recently used first out, and nothing computed twice at once.

`Lru` only keeps and counts; it knows no loop and no clock. `Memo` is the `get_or_compute` on top of it: whoever asks
for what is being computed already waits for that, and who gives up waiting spoils it for nobody.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class Counts:
    """What a cache was used for since it was made. An eviction makes room; what expires is none."""

    hits: int = 0
    misses: int = 0
    stores: int = 0
    evictions: int = 0


class _Kept(NamedTuple, Generic[V]):
    value: V
    until: float
    size: int


class Lru(Generic[K, V]):
    """At most `max_entries`, and `max_size` together where that is given; sizes are the caller's, in any unit."""

    def __init__(self, max_entries: int, max_size: float = inf) -> None:
        self.counts = Counts()
        self._max_entries = max_entries
        self._max_size = max_size
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K, now: float = 0.0) -> V | None:
        """What is kept under `key` and not expired at `now`."""
        kept = self._kept.get(key)
        if kept is not None and kept.until <= now:
            self._drop(key)
            kept = None
        if kept is None:
            self.counts.misses += 1
            return None
        self._kept.move_to_end(key)
        self.counts.hits += 1
        return kept.value

    def put(self, key: K, value: V, until: float = inf, size: int = 0) -> None:
        """Keep `value` up to `until`. What is larger than all may be together is not kept."""
        self._drop(key)
        if size > self._max_size or not self._max_entries:
            return
        self._kept[key] = _Kept(value, until, size)
        self._size += size
        self.counts.stores += 1
        while len(self._kept) > self._max_entries or self._size > self._max_size:
            self._drop(next(iter(self._kept)))
            self.counts.evictions += 1

    def _drop(self, key: K) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._size -= kept.size


class Memo(Generic[K, V]):
    """Values that are computed when first asked for."""

    def __init__(self, max_entries: int) -> None:
        self._kept: Lru[K, V] = Lru(max_entries)
        self._under_way: dict[K, asyncio.Task[Mapping[K, V]]] = {}

    @property
    def counts(self) -> Counts:
        """Waiting for what is under way is a hit."""
        return self._kept.counts

    def __len__(self) -> int:
        return len(self._kept)

    async def get_or_compute(
        self, keys: Sequence[K], compute: Callable[[Sequence[K]], Awaitable[Sequence[V]]]
    ) -> list[V]:
        """The values of `keys`, in their order. `compute` is given those that nobody has or computes, each once, and
        goes on when the caller is cancelled. Raises what it raises, as do all who wait for it."""
        found: dict[K, V] = {}
        waiting: dict[K, asyncio.Task[Mapping[K, V]]] = {}
        missing: list[K] = []
        for key in dict.fromkeys(keys):
            if (task := self._under_way.get(key)) is not None:
                self.counts.hits += 1
                waiting[key] = task
            elif (value := self._kept.get(key)) is not None:
                found[key] = value
            else:
                missing.append(key)
        if missing:
            task = asyncio.get_running_loop().create_task(self._compute(missing, compute))
            task.add_done_callback(_heard)
            waiting.update(dict.fromkeys(missing, task))
            self._under_way.update(dict.fromkeys(missing, task))
        for key, task in waiting.items():
            found[key] = (await asyncio.shield(task))[key]
        return [found[key] for key in keys]

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = set(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compute(self, keys: list[K], compute: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> Mapping[K, V]:
        try:
            values = dict(zip(keys, await compute(keys), strict=True))
            for key, value in values.items():
                self._kept.put(key, value)
            return values
        finally:
            for key in keys:
                del self._under_way[key]


def _heard(task: asyncio.Task[object]) -> None:
    """Its error is told to those who wait for it, and they may all have left."""
    if not task.cancelled():
        task.exception()
