"""What a session store actor does with memories: they lie in records of the user, so it works where those are.

Memories of the users who were here last are held, as a shelf for each user and workflow; what changes is written
before it is acknowledged, a record for each memory. Everyone else who changes a user's records is noticed: the shelf is
dropped and read again, and as each write names the version it expects, one that came too late changes nothing.

Nobody waits for consolidation: it is done when nobody has asked for a while, or in the configured hours, one user after
the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, TypeVar

import msgspec

from rayflow.actors.memory_meaning import MemoryMeaning
from rayflow.actors.outbox import Outbox
from rayflow.clock import Clock
from rayflow.config.schema import MemoryConfig, Schedule
from rayflow.errors import Conflict, ValidationError, WorkflowError
from rayflow.events import Event
from rayflow.messages import (
    Consolidate,
    Consolidated,
    Filter,
    Forget,
    Forgotten,
    ListMemories,
    Memories,
    Memory,
    Payload,
    ReadRecords,
    Recall,
    Recalled,
    RecordWrite,
    Remember,
    Remembered,
    WriteRecords,
)
from rayflow.messages.records import MAX_WRITES, USER, of_user
from rayflow.policies.memory import Changes, Shelf, decode
from rayflow.policies.memory.ranking import admits
from rayflow.policies.preferences import PREFERENCES, preferences_of
from rayflow.policies.scaling.schedule import active
from rayflow.runtime.ports import Handler, RecordStore

MEMORY = "memory"
"""The kind of the records. Their names are the workflow's, a slash, and the memory's id."""
HELD = 500
"""Shelves that are held."""
MOST_FOUND = 100
MOST_AT_ONCE = 100
PAGE = 500
TRIES = 3
SLICE_S = 0.002
"""After so much reading others may work."""
TICK_S = 1.0
"""How often is looked whether there is time to consolidate."""

log = logging.getLogger(__name__)

T = TypeVar("T")


class Key(NamedTuple):
    tenant: str
    user_id: str
    workflow: str

    @property
    def owner(self) -> str:
        return of_user(self.user_id)


@dataclass(slots=True, eq=False)
class Held:
    """`shelf`: None until it was read. `versions`: of the records, by id of the memory."""

    shelf: Shelf | None = None
    versions: dict[str, int] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    consolidated: float = -inf


class MemoryKeeper:
    """`address`: of the actor it is part of."""

    def __init__(
        self,
        address: str,
        config: MemoryConfig,
        store: RecordStore,
        outbox: Outbox,
        clock: Clock,
        meaning: MemoryMeaning | None = None,
    ) -> None:
        self._meaning = meaning
        self._address = address
        self._config = config
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._held: OrderedDict[Key, Held] = OrderedDict()
        self._asked = -inf
        self._off_peak = [Schedule(start=time.start, end=time.end, min=0) for time in config.off_peak]
        self._consolidating: asyncio.Task[None] | None = None

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            Remember: self._remember,
            Recall: self._recall,
            ListMemories: self._list,
            Forget: self._forget,
            Consolidate: self._consolidate,
        }

    async def start(self) -> None:
        self._consolidating = asyncio.create_task(self._keep_consolidating())

    async def stop(self) -> None:
        if self._consolidating is not None:
            self._consolidating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._consolidating
        if self._meaning is not None:
            await self._meaning.stop()

    def changed(self, tenant: str, owner: str) -> None:
        """Somebody else changes the records of this owner, or has."""
        if owner.startswith(USER):
            for key in [key for key in self._held if key.tenant == tenant and key.owner == owner]:
                del self._held[key]

    # --- requests ---

    async def _remember(self, request: Remember) -> Remembered:
        if len(request.memories) > MOST_AT_ONCE:
            raise ValidationError(f"{len(request.memories)} memories at once: {MOST_AT_ONCE} are the most")
        key, now_us = self._key(request), self._clock.wall_us()
        memories = [_dated(memory, now_us) for memory in request.memories]
        done = await self._change(key, lambda shelf: shelf.add(memories, now_us))
        if msgspec.structs.astuple(done) != (0, 0, 0):
            counts = {"memories": done.added, "superseded": done.superseded, "evicted": done.evicted}
            self._tell("memory.remembered", key, **counts)
        return done

    async def _recall(self, request: Recall) -> Recalled:
        key = self._key(request)
        shelf = await self._shelf(key)
        near = None if self._meaning is None else await self._meaning.of(request.query, shelf)
        found = shelf.recall(
            request.query,
            min(request.top_k, MOST_FOUND),
            request.filter,
            self._clock.wall_us(),
            fill=request.fill,
            use=request.use,
            similarity=near,
        )
        if not request.preferences:
            return Recalled(found)
        read = ReadRecords(key.tenant, key.owner, PREFERENCES, [PREFERENCES])
        records = (await self._store.read_records(read, self._clock.wall_us())).records
        return Recalled(found, preferences_of(records[0].value) if records else {})

    async def _list(self, request: ListMemories) -> Memories:
        shelf, wanted = await self._shelf(self._key(request)), request.filter
        listed = [m for m in shelf if m.id > request.after and (wanted == Filter() or admits(wanted, m))]
        return Memories(listed[: request.limit], len(listed) > request.limit)

    async def _forget(self, request: Forget) -> Forgotten:
        key = self._key(request)

        def forget(shelf: Shelf) -> tuple[int, Changes]:
            changes = shelf.forget(request.ids)
            return len(changes.gone), changes

        forgotten = await self._change(key, forget)
        if forgotten:
            self._tell("memory.forgotten", key, memories=forgotten)
        return Forgotten(forgotten)

    async def _consolidate(self, request: Consolidate) -> Consolidated:
        return await self._consolidated(self._key(request))

    def _key(self, request: Remember | Recall | ListMemories | Forget | Consolidate) -> Key:
        self._asked = self._clock.now()
        return Key(request.tenant, request.user_id, request.workflow)

    # --- shelves ---

    async def _shelf(self, key: Key) -> Shelf:
        held = self._hold(key)
        if held.shelf is None:
            async with held.lock:
                return await self._loaded(key, held)
        return held.shelf

    def _hold(self, key: Key) -> Held:
        if not key.user_id:
            raise ValidationError("nothing is remembered of nobody: a user is needed", param="user_id")
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Held()
            for oldest in [key for key, each in self._held.items() if not each.lock.locked()][: len(self._held) - HELD]:
                del self._held[oldest]
        self._held.move_to_end(key)
        return held

    async def _loaded(self, key: Key, held: Held) -> Shelf:
        """To be called with its lock."""
        if held.shelf is not None:
            return held.shelf
        begins = after = f"{key.workflow}/"
        shelf, versions, more = Shelf(self._config), dict[str, int](), True
        since = self._clock.now()
        while more:
            read = ReadRecords(key.tenant, key.owner, MEMORY, after=after, limit=PAGE)
            page = await self._store.read_records(read, self._clock.wall_us())
            for record in page.records:
                if not record.name.startswith(begins):
                    break
                try:
                    memory = decode(record.value)
                except ValueError as error:
                    log.warning("%s: record %s of %s is left out: %s", self._address, record.name, key.owner, error)
                    continue
                shelf.take(memory)
                versions[memory.id] = record.version
                if self._clock.now() - since > SLICE_S:
                    await asyncio.sleep(0)
                    since = self._clock.now()
            more = page.more and page.records[-1].name.startswith(begins)
            after = page.records[-1].name if page.records else after
        held.shelf, held.versions = shelf, versions
        return shelf

    async def _change(self, key: Key, change: Callable[[Shelf], tuple[T, Changes]]) -> T:
        """Change a shelf and store that. Where somebody else was faster, what is here is wrong: once more."""
        for tried in range(1, TRIES + 1):
            held = self._hold(key)
            async with held.lock:
                result, changes = change(await self._loaded(key, held))
                try:
                    await self._store_changes(key, held, changes)
                except BaseException as error:
                    self._drop(key, held)  # it has what the store has not
                    if not isinstance(error, Conflict) or tried == TRIES:
                        raise
                else:
                    return result
        raise AssertionError("the last try returns or raises")

    async def _store_changes(self, key: Key, held: Held, changes: Changes) -> None:
        writes = [self._write(key, held, each, value) for each, value in changes.written.items()]
        writes += [self._write(key, held, each, None) for each in changes.gone if each in held.versions]
        for start in range(0, len(writes), MAX_WRITES):
            some = writes[start : start + MAX_WRITES]
            request = WriteRecords(key.tenant, key.owner, some)
            written = await self._store.write_records(request, self._clock.wall_us())
            for write, version in zip(some, written.versions, strict=True):
                memory_id = write.name.removeprefix(f"{key.workflow}/")
                if version:
                    held.versions[memory_id] = version
                else:
                    held.versions.pop(memory_id, None)

    def _write(self, key: Key, held: Held, memory_id: str, value: bytes | None) -> RecordWrite:
        expected = held.versions.get(memory_id, 0) if value is not None else None
        return RecordWrite(MEMORY, f"{key.workflow}/{memory_id}", value, expected)

    def _drop(self, key: Key, held: Held) -> None:
        if self._held.get(key) is held:
            del self._held[key]

    def _tell(self, kind: str, key: Key, **data: int) -> None:
        now_us = self._clock.wall_us()
        event = Event(kind, now_us, self._address, tenant=key.tenant, user_id=key.user_id, data=dict(data))
        self._outbox.emit(event)

    # --- consolidation ---

    async def _keep_consolidating(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self.consolidate_some()

    async def consolidate_some(self) -> None:
        """Consolidate what is due, until somebody asks for something. What fails now is tried again next time."""
        for key in [*self._held]:
            if not self._is_time():
                return
            held = self._held.get(key)
            if held is None or not self._is_due(held):
                continue
            try:
                await self._consolidated(key)
            except WorkflowError as error:
                log.warning("%s could not consolidate memories: %s", self._address, error)
                return
            await asyncio.sleep(0)

    def _is_time(self) -> bool:
        if self._clock.now() - self._asked >= self._config.consolidation_idle_s:
            return True
        wall_s = self._clock.wall_us() / 1e6
        return any(active(time, wall_s) for time in self._off_peak)

    def _is_due(self, held: Held) -> bool:
        due = self._clock.now() - held.consolidated >= self._config.consolidation_interval_s
        return due and held.shelf is not None and held.shelf.changed

    async def _consolidated(self, key: Key) -> Consolidated:
        now_us = self._clock.wall_us()
        done = await self._change(key, lambda shelf: shelf.consolidate(now_us))
        if (held := self._held.get(key)) is not None:
            held.consolidated = self._clock.now()
        if done != Consolidated():
            counts = {name: getattr(done, name) for name in done.__struct_fields__}
            self._tell("memory.consolidated", key, **counts)
        return done


def _dated(memory: Memory, now_us: int) -> Memory:
    return memory if memory.created_us else msgspec.structs.replace(memory, created_us=now_us, used_us=now_us)
