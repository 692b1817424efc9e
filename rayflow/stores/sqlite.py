"""Sessions in SQLite: one file per shard, written by one thread with few commits (`writer`)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from rayflow.messages import (
    Appended,
    AppendTurns,
    CloseSession,
    CreateSession,
    DeleteSession,
    Erased,
    ErasedRecords,
    EraseRecords,
    EraseUser,
    ForkSession,
    GetHistory,
    GetSession,
    History,
    ImportRecords,
    ImportSession,
    ListRecords,
    ListSessions,
    ReadRecords,
    RecordList,
    Records,
    RollBackRun,
    SessionInfo,
    SessionList,
    UpdateSession,
    WriteRecords,
    Written,
)
from rayflow.stores import rules
from rayflow.stores import sqlite_keeping as keeping
from rayflow.stores.payloads import PLAIN, Payloads
from rayflow.stores.records.sqlite import RecordTables
from rayflow.stores.sqlite_file import Schema
from rayflow.stores.sqlite_heads import Heads
from rayflow.stores.sqlite_sessions import Shard
from rayflow.stores.writer import SqliteWriter

UPGRADES = {1: "sqlite_upgrade_2.sql", 2: "sqlite_upgrade_2.sql", 3: "sqlite_upgrade_3.sql"}
SCHEMA = Schema("session store", "sqlite_schema.sql", 4, {"heads", "sessions"}, UPGRADES)

DROPPED_AT_ONCE = 50
"""Sessions that one transaction deletes: turns of others wait for it."""

T = TypeVar("T")


class SqliteStore(SqliteWriter):
    """One shard. `path`: the database file; its folder is made. Raises `StorageError` where the file cannot be used."""

    def __init__(self, path: Path, synchronous: str = "FULL", payloads: Payloads = PLAIN) -> None:
        super().__init__(path, SCHEMA, synchronous)
        self._payloads = payloads
        self._heads = Heads()
        self._rekeyed = 0
        self._rekeyed_owners = 0

    async def append(self, request: AppendTurns, now_us: int) -> Appended:
        return await self._write(lambda shard: shard.append(request, now_us))

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        return await self._write(lambda shard: shard.create(request, now_us))

    async def get(self, request: GetSession) -> SessionInfo:
        return await self._read(lambda shard: shard.info(request.tenant, request.session_id))

    async def history(self, request: GetHistory) -> History:
        return await self._read(lambda shard: shard.history(request))

    async def list(self, request: ListSessions) -> SessionList:
        return await self.submit(lambda db: keeping.listed(db, self._payloads, request), reads=True)

    async def tenants(self) -> Sequence[str]:
        return await self.submit(keeping.tenants, reads=True)

    async def update(self, request: UpdateSession, now_us: int) -> SessionInfo:
        return await self._write(lambda shard: shard.update(request, now_us))

    async def fork(self, request: ForkSession, now_us: int) -> SessionInfo:
        return await self._write(lambda shard: shard.fork(request, now_us))

    async def close_session(self, request: CloseSession, now_us: int) -> SessionInfo:
        return await self._write(lambda shard: shard.close(request, now_us))

    async def roll_back(self, request: RollBackRun, now_us: int) -> SessionInfo:
        return await self._write(lambda shard: shard.roll_back(request, now_us))

    async def delete(self, request: DeleteSession) -> None:
        await self._write(lambda shard: shard.delete(request))

    async def erase(self, request: EraseUser) -> Erased:
        erased = await self._write(lambda shard: keeping.erase(shard, request))
        await asyncio.to_thread(self._empty_log)
        return erased

    async def expire(self, now_us: int, timeout_s: float, max_s: float, limit: int = 1000) -> int:
        updated, created = rules.before(now_us, timeout_s), rules.before(now_us, max_s)
        found = await asyncio.to_thread(self._idle, updated, created, limit)
        gone = 0
        for i in range(0, len(found), DROPPED_AT_ONCE):
            keys = found[i : i + DROPPED_AT_ONCE]
            drop = partial(keeping.drop_idle, keys=keys, updated_before_us=updated, created_before_us=created)
            gone += await self._write(drop)
        return gone

    async def import_session(self, request: ImportSession) -> SessionInfo:
        return await self._write(lambda shard: shard.import_session(request))

    async def rekey(self, limit: int = 100) -> int:
        done, self._rekeyed = await self._write(lambda shard: keeping.rekey(shard, self._rekeyed, limit))
        return done

    # --- records ---

    async def read_records(self, request: ReadRecords, now_us: int) -> Records:
        return await self._of_records(lambda tables: tables.read(request, now_us), reads=True)

    async def write_records(self, request: WriteRecords, now_us: int) -> Written:
        return await self._of_records(lambda tables: tables.write(request, now_us))

    async def erase_records(self, request: EraseRecords) -> ErasedRecords:
        return await self._of_records(lambda tables: tables.erase(request))

    async def list_records(self, request: ListRecords) -> RecordList:
        return await self._of_records(lambda tables: tables.list(request), reads=True)

    async def import_records(self, request: ImportRecords) -> None:
        await self._of_records(lambda tables: tables.insert(request))

    async def expire_records(self, now_us: int, limit: int = 1000) -> int:
        return await self._of_records(lambda tables: tables.expire(now_us, limit))

    async def rekey_records(self, limit: int = 100) -> int:
        done, self._rekeyed_owners = await self._of_records(lambda tables: tables.rekey(self._rekeyed_owners, limit))
        return done

    # --- how ---

    async def _of_records(self, job: Callable[[RecordTables], T], *, reads: bool = False) -> T:
        return await self.submit(lambda db: job(RecordTables(db, self._payloads)), reads=reads)

    async def _write(self, job: Callable[[Shard], T]) -> T:
        return await self.submit(lambda db: job(Shard(db, self._payloads, self._heads)))

    async def _read(self, job: Callable[[Shard], T]) -> T:
        return await self.submit(lambda db: job(Shard(db, self._payloads)), reads=True)

    def _rolled_back(self) -> None:
        self._heads.forget_all()

    def _idle(self, updated: int, created: int, limit: int) -> Sequence[keeping.Key]:
        """On a connection of its own, because it reads every head, and nobody shall wait for that."""
        with closing(sqlite3.connect(self._path)) as db:
            return keeping.idle(db, updated, created, limit)

    def _empty_log(self) -> None:
        """What was deleted is overwritten in the file, but its write-ahead log still has it."""
        with closing(sqlite3.connect(self._path)) as db:
            db.execute("pragma wal_checkpoint(truncate)")
