"""Sessions in SQLite: one file per shard, written by one thread with few commits (`writer`)."""

from __future__ import annotations

from pathlib import Path

from rayflow.messages import (
    Appended,
    AppendTurns,
    CreateSession,
    DeleteSession,
    GetHistory,
    GetSession,
    History,
    SessionInfo,
)
from rayflow.stores import sqlite_sessions as sessions
from rayflow.stores.sqlite_file import Schema
from rayflow.stores.writer import SqliteWriter

SCHEMA = Schema("session store", "sqlite_schema.sql", 2)


class SqliteStore(SqliteWriter):
    """One shard. `path`: the database file; its folder is made. Raises `StorageError` where the file cannot be used."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        super().__init__(path, SCHEMA, synchronous)

    async def append(self, request: AppendTurns, now_us: int) -> Appended:
        return await self.submit(lambda db: sessions.append(db, request, now_us))

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        return await self.submit(lambda db: sessions.create(db, request, now_us))

    async def get(self, request: GetSession) -> SessionInfo:
        return await self.submit(lambda db: sessions.info(db, request.tenant, request.session_id), reads=True)

    async def history(self, request: GetHistory) -> History:
        return await self.submit(lambda db: sessions.history(db, request), reads=True)

    async def delete(self, request: DeleteSession) -> None:
        await self.submit(lambda db: sessions.delete(db, request))
