"""Kept answers in a session store actor: in its memory for all routers, and in its records.

A part of that actor, because the records lie there: one question of a router asks both levels. Records are written when
the router has long gone on; a write that fails, or would be one too many, is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec

from rayflow.actors.results import MAX_CHARS, counted, place, told
from rayflow.caching import Counts, Lru
from rayflow.clock import Clock
from rayflow.config.schema import ResultCacheConfig
from rayflow.errors import WorkflowError
from rayflow.messages import (
    Answer,
    CacheCounts,
    Caches,
    FoundAnswer,
    GetAnswer,
    GetCaches,
    KeepAnswer,
    Payload,
    ReadRecords,
    Records,
    RecordWrite,
    WriteRecords,
)
from rayflow.messages.caches import KIND
from rayflow.policies.own import Fence
from rayflow.runtime.ports import Actor, Handler

MOST_WRITES = 64
"""Records being written; answers beyond them stay in memory only."""

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Answer).decode


class KeptResults:
    """The session store actor `store`, with kept answers."""

    def __init__(self, store: Actor, config: ResultCacheConfig, clock: Clock) -> None:
        self._store = store
        self._handlers = store.handlers
        self._clock = clock
        self._memory: Lru[tuple[str, str], FoundAnswer] | None = None
        if "shared" in config.levels:
            self._memory = Lru(config.max_entries, MAX_CHARS)
        self._durable = "store" in config.levels
        self._records = Counts()
        self._writing: set[asyncio.Task[None]] = set()
        self._fence = Fence("result cache", "memory")

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {**self._handlers, GetAnswer: self._get, KeepAnswer: self._keep, GetCaches: self._count}

    async def start(self) -> None:
        await self._store.start()

    async def drain(self, budget_s: float) -> list[str]:
        left = await self._store.drain(budget_s)
        if self._writing:
            await asyncio.wait(self._writing, timeout=budget_s)
        return left

    async def stop(self) -> None:
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)
        await self._store.stop()

    async def _get(self, request: GetAnswer) -> FoundAnswer:
        found = None
        if self._memory is not None:
            found = self._memory.get((request.tenant, request.key), self._clock.wall_us())
        if found is None and self._durable:
            found = await self._read(request)
            if found is not None and self._memory is not None:
                self._remember(request.tenant, request.key, found)
        return found or FoundAnswer()

    async def _read(self, request: GetAnswer) -> FoundAnswer | None:
        read = ReadRecords(request.tenant, place(request.key), KIND, [request.key])
        records: Records = await self._ask(read)
        if not records.records:
            self._records.misses += 1
            return None
        self._records.hits += 1
        record = records.records[0]
        return FoundAnswer(_decode(record.value), record.expires_us)

    def _keep(self, message: KeepAnswer) -> None:
        if self._memory is not None:
            self._remember(message.tenant, message.key, FoundAnswer(message.answer, message.expires_us))
        if self._durable and len(self._writing) < MOST_WRITES:
            task = asyncio.get_running_loop().create_task(self._write(message))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    def _remember(self, tenant: str, key: str, found: FoundAnswer) -> None:
        assert self._memory is not None and found.answer is not None
        self._memory.put((tenant, key), found, found.expires_us, len(found.answer.text))

    async def _write(self, message: KeepAnswer) -> None:
        write = RecordWrite(KIND, message.key, _encode(message.answer), expires_us=message.expires_us)
        try:
            await self._ask(WriteRecords(message.tenant, place(message.key), [write]))
        except WorkflowError as error:
            self._fence.report(error)
        else:
            self._records.stores += 1

    async def _ask(self, message: Payload) -> Any:
        """Of the store itself."""
        reply = self._handlers[type(message)](message)
        return await reply if isinstance(reply, Awaitable) else reply

    def _count(self, _: GetCaches) -> Caches:
        counts: list[CacheCounts] = []
        if self._memory is not None:
            counts.append(counted("results", "shared", self._memory))
        if self._durable:
            counts.append(told("results", "store", self._records, 0))
        return Caches(counts)
