"""What a session store actor does with records. They lie where sessions lie, so it is a part of that actor."""

from __future__ import annotations

from collections.abc import Mapping

from rayflow.clock import Clock
from rayflow.messages import (
    Ack,
    ErasedRecords,
    EraseRecords,
    ImportRecords,
    ListRecords,
    Payload,
    ReadRecords,
    RecordList,
    Records,
    WriteRecords,
    Written,
)
from rayflow.runtime.ports import Handler, RecordStore

EXPIRED_AT_ONCE = 100
"""Records deleted in one transaction; other requests come in between."""


class RecordKeeper:
    def __init__(self, store: RecordStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            ReadRecords: self._read,
            WriteRecords: self._write,
            EraseRecords: self._erase,
            ListRecords: self._list,
            ImportRecords: self._import,
        }

    async def _read(self, request: ReadRecords) -> Records:
        return await self._store.read_records(request, self._clock.wall_us())

    async def _write(self, request: WriteRecords) -> Written:
        return await self._store.write_records(request, self._clock.wall_us())

    async def _erase(self, request: EraseRecords) -> ErasedRecords:
        return await self._store.erase_records(request)

    async def _list(self, request: ListRecords) -> RecordList:
        return await self._store.list_records(request)

    async def _import(self, request: ImportRecords) -> Ack:
        await self._store.import_records(request)
        return Ack()

    async def expire(self) -> None:
        """Delete what has expired. Nobody sees it any more, but it takes space."""
        while await self._store.expire_records(self._clock.wall_us(), EXPIRED_AT_ONCE) == EXPIRED_AT_ONCE:
            pass
