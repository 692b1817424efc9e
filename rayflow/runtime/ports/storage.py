"""What is kept: sessions with their records, and accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rayflow.messages import (
    Appended,
    AppendTurns,
    Balance,
    Booking,
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
    Reservation,
    RollBackRun,
    SessionInfo,
    SessionList,
    UpdateSession,
    WriteRecords,
    Written,
)


class SessionStore(Protocol):
    """Where a session store actor keeps its shard. One writer: only that actor calls it. All methods may wait for disk;
    writes return when they are durable. They raise `NotFound`, `Conflict`, `ValidationError`, `StorageError`,
    `StorageFull`, `Fenced`. What a request means is said where it is defined (`messages.sessions`)."""

    async def open(self) -> None: ...

    async def append(self, request: AppendTurns, now_us: int) -> Appended: ...

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo: ...

    async def get(self, request: GetSession) -> SessionInfo: ...

    async def history(self, request: GetHistory) -> History: ...

    async def list(self, request: ListSessions) -> SessionList: ...

    async def tenants(self) -> Sequence[str]:
        """Who has sessions here, sorted."""
        ...

    async def update(self, request: UpdateSession, now_us: int) -> SessionInfo: ...

    async def fork(self, request: ForkSession, now_us: int) -> SessionInfo: ...

    async def close_session(self, request: CloseSession, now_us: int) -> SessionInfo: ...

    async def roll_back(self, request: RollBackRun, now_us: int) -> SessionInfo: ...

    async def delete(self, request: DeleteSession) -> None: ...

    async def erase(self, request: EraseUser) -> Erased: ...

    async def expire(self, now_us: int, timeout_s: float, max_s: float, limit: int = 1000) -> int:
        """Delete sessions in which nothing has happened for `timeout_s` (`updated_us`), and those that began more than
        `max_s` ago; 0 for never. Returns how many, at most `limit`, because others wait meanwhile: call again while it
        is that many."""
        ...

    async def import_session(self, request: ImportSession) -> SessionInfo: ...

    async def rekey(self, limit: int = 100) -> int:
        """Wrap the data keys of at most `limit` sessions anew, where another than the present key wraps them, and
        encrypt the sessions that are not. Returns how many; 0 when nothing is left, and without encryption."""
        ...

    async def close(self) -> None: ...


class RecordStore(Protocol):
    """Where a session store actor keeps the records of its shard (`messages.records`). As `SessionStore` in everything
    else. What deletes a session deletes the records of `session/<id>` in the same transaction, and `erase` those of
    `user/<id>`."""

    async def read_records(self, request: ReadRecords, now_us: int) -> Records: ...

    async def write_records(self, request: WriteRecords, now_us: int) -> Written: ...

    async def erase_records(self, request: EraseRecords) -> ErasedRecords: ...

    async def list_records(self, request: ListRecords) -> RecordList:
        """Expired ones too, where they are not yet deleted."""
        ...

    async def import_records(self, request: ImportRecords) -> None: ...

    async def expire_records(self, now_us: int, limit: int = 1000) -> int:
        """Delete records that have expired. Returns how many it dealt with, at most `limit`: call again while it is
        that many."""
        ...

    async def rekey_records(self, limit: int = 100) -> int:
        """As `SessionStore.rekey`, of owners with all their records."""
        ...


class ShardStore(SessionStore, RecordStore, Protocol):
    """All that a session store actor keeps."""


class Books(Protocol):
    """Where the accounts actor keeps balances and open reservations. One writer: only that actor calls it. All methods
    may wait for disk, and take effect in the order of their calls; a write returns when it is durable. They raise
    `StorageError`, `StorageFull`, `Fenced`."""

    async def open(self) -> None: ...

    async def reservations(self) -> list[Reservation]:
        """Those of runs that were not settled."""
        ...

    async def balances(self, names: Sequence[str]) -> list[Balance]:
        """Of these accounts, where there are any."""
        ...

    async def write(self, booking: Booking) -> None: ...

    async def close(self) -> None: ...
