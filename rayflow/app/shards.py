"""All session stores as one. A session belongs to one shard, by its id; what concerns many is asked of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from heapq import merge
from itertools import islice
from typing import Any, overload

from msgspec.structs import replace

from rayflow.errors import ValidationError
from rayflow.ids import new_session_id
from rayflow.messages import (
    Ack,
    CloseSession,
    Consolidate,
    Consolidated,
    CreateSession,
    DeleteSession,
    Erased,
    ErasedRecords,
    EraseRecords,
    EraseUser,
    Forget,
    Forgotten,
    ForkSession,
    GetHistory,
    GetSession,
    History,
    ImportRecords,
    ImportSession,
    ListMemories,
    ListRecords,
    ListSessions,
    ListTenants,
    LockSession,
    Memories,
    OwnedRecord,
    Payload,
    Position,
    ReadRecords,
    Recall,
    Recalled,
    RecordList,
    Records,
    Rekeyed,
    RekeySessions,
    Remember,
    Remembered,
    SessionInfo,
    SessionList,
    SessionLock,
    Tenants,
    UnlockSession,
    UpdateSession,
    WriteRecords,
    Written,
)
from rayflow.messages.records import of_user
from rayflow.policies.placement import owner, record_shard

PAGE = 100
"""Sessions or turns of one message."""

OneSession = (
    CreateSession
    | GetSession
    | UpdateSession
    | GetHistory
    | ForkSession
    | CloseSession
    | LockSession
    | UnlockSession
    | DeleteSession
    | ImportSession
)


class Shards:
    """`ask`: how to ask the store at an address, and whether the question may be asked again where nobody knows what
    became of it. All methods raise what it raises: `NotFound`, `Conflict`, `StorageError`, `FabricError`."""

    def __init__(self, addresses: Sequence[str], ask: Callable[[str, Payload, bool], Awaitable[Any]]) -> None:
        self.addresses = addresses
        self._ask = ask

    @overload
    async def session(
        self, message: CreateSession | GetSession | UpdateSession | ForkSession | CloseSession | ImportSession
    ) -> SessionInfo: ...
    @overload
    async def session(self, message: GetHistory) -> History: ...
    @overload
    async def session(self, message: LockSession) -> SessionLock: ...
    @overload
    async def session(self, message: DeleteSession | UnlockSession) -> Ack: ...
    async def session(self, message: OneSession) -> Any:
        """Ask the store that owns the session."""
        if isinstance(message, ImportSession):
            return await self._ask(self._owner(message.info.session_id), message, True)
        shard = self._owner(message.session_id)
        if isinstance(message, ForkSession) and self._owner(message.child_id) != shard:
            raise ValidationError(
                f"a fork of session {message.session_id} cannot have the id {message.child_id}, which belongs to"
                " another shard: leave it to the system",
                param="session_id",
            )
        repeatable = isinstance(message, GetSession | GetHistory | CloseSession)
        return await self._ask(shard, message, repeatable)

    async def list(self, request: ListSessions) -> SessionList:
        """The newest first, of all shards."""
        lists = await self._ask_all(request)
        newest_first = merge(*(each.sessions for each in lists), key=position, reverse=True)
        return SessionList(list(islice(newest_first, request.limit)))

    async def every(self, tenant: str, user_id: str = "") -> AsyncGenerator[SessionInfo, None]:
        """All sessions of a tenant, or of one of its users, the newest first, page after page."""
        request = ListSessions(tenant, user_id, PAGE)
        while True:
            page = (await self.list(request)).sessions
            for info in page:
                yield info
            if len(page) < PAGE:
                return
            request = replace(request, after=position(page[-1]))

    async def history(self, tenant: str, session_id: str) -> AsyncGenerator[History, None]:
        """All turns of a session, page after page; at least one page."""
        after = 0
        while True:
            page = await self.session(GetHistory(tenant, session_id, after, PAGE))
            yield page
            if len(page.turns) < PAGE:
                return
            after = page.turns[-1].seq

    async def tenants(self) -> Sequence[str]:
        """Who has sessions, sorted."""
        answers: Sequence[Tenants] = await self._ask_all(ListTenants())
        return sorted({name for answer in answers for name in answer.names})

    async def erase(self, tenant: str, user_id: str) -> int:
        """Delete all sessions of a user. Returns how many; asking again is fine."""
        answers: Sequence[Erased] = await self._ask_all(EraseUser(tenant, user_id))
        return sum(answer.sessions for answer in answers)

    async def rekey(self) -> Rekeyed:
        """Bring some sessions and records of every shard to the present key. Both numbers are 0 when all are."""
        answers: Sequence[Rekeyed] = await self._ask_all(RekeySessions())
        return Rekeyed(sum(answer.sessions for answer in answers), sum(answer.owners for answer in answers))

    @overload
    async def records(self, message: ReadRecords) -> Records: ...
    @overload
    async def records(self, message: WriteRecords) -> Written: ...
    @overload
    async def records(self, message: EraseRecords) -> ErasedRecords: ...
    @overload
    async def records(self, message: ImportRecords) -> Ack: ...
    async def records(self, message: ReadRecords | WriteRecords | EraseRecords | ImportRecords) -> Any:
        """Ask the store that has the records of this owner. A write that expects a version is not repeated where nobody
        knows what became of it, because it would conflict with itself."""
        at = record_shard(message.tenant, message.owner, self.addresses)
        once = isinstance(message, WriteRecords) and any(w.expected_version is not None for w in message.writes)
        return await self._ask(at, message, not once)

    @overload
    async def memory(self, message: Remember) -> Remembered: ...
    @overload
    async def memory(self, message: Recall) -> Recalled: ...
    @overload
    async def memory(self, message: ListMemories) -> Memories: ...
    @overload
    async def memory(self, message: Forget) -> Forgotten: ...
    @overload
    async def memory(self, message: Consolidate) -> Consolidated: ...
    async def memory(self, message: Remember | Recall | ListMemories | Forget | Consolidate) -> Any:
        """Ask the store that has what is remembered of this user."""
        return await self._ask(record_shard(message.tenant, of_user(message.user_id), self.addresses), message, True)

    async def every_record(self, tenant: str | None = None, of: str = "") -> AsyncGenerator[OwnedRecord, None]:
        """All records, or those of a tenant or of an owner of a tenant, shard after shard and page after page."""
        for address in [record_shard(tenant or "", of, self.addresses)] if of else self.addresses:
            request = ListRecords(tenant, of, limit=PAGE)
            more = True
            while more:
                page: RecordList = await self._ask(address, request, True)
                for owned in page.records:
                    yield owned
                more = page.more
                if more:
                    last = page.records[-1]
                    request = replace(request, after=(last.tenant, last.owner, last.record.kind, last.record.name))

    def sibling(self, session_id: str) -> str:
        """A new id in the shard of this session, for a fork of it."""
        shard = self._owner(session_id)
        while self._owner(child := new_session_id()) != shard:
            pass
        return child

    def _owner(self, session_id: str) -> str:
        return owner(session_id, self.addresses)

    async def _ask_all(self, message: Payload) -> Sequence[Any]:
        return await asyncio.gather(*(self._ask(address, message, True) for address in self.addresses))


def position(info: SessionInfo) -> Position:
    return Position(info.created_us, info.session_id)
