"""A shard of sessions on a database server.

Writes that arrive while the server is busy wait in a line; then all of them become one batch: read, decided and
committed together (`draft`). One round trip to the disk is thereby shared by many, as in the SQLite store. Reads go
their own way, over a pool of connections, and see what is committed.

A server may be away for a while: restarted, failed over, unreachable. Requests wait for it up to `patience_s` from the
moment it was missed, and then fail with `Unavailable`. Nothing is written twice: each batch has a number, which is
committed with it, so that a commit whose answer got lost is recognised when it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from rayflow.errors import Fenced, StorageError, Unavailable
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
from rayflow.stores.records.rules import check_read
from rayflow.stores.servers import decisions as decide
from rayflow.stores.servers import record_decisions as of_records
from rayflow.stores.servers.database import Away, Database
from rayflow.stores.servers.draft import Draft, Idle, Needs, check_names
from rayflow.stores.servers.record_draft import Expired
from rayflow.stores.servers.rows import Rows

MAX_BATCH = 512
"""Most requests of one commit: bounds how long the first of them waits."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""Between two tries to reach a server that is away."""

T = TypeVar("T")


class _Job(NamedTuple):
    """One write: what it needs, what it decides, and who waits."""

    needs: Needs
    decide: Callable[[Draft], Callable[[], Any]]
    answer: asyncio.Future[Any]


_Line = list[_Job]


class ServerStore:
    """`patience_s`: how long requests wait for a server that is away."""

    def __init__(self, database: Database, rows: Rows, patience_s: float) -> None:
        self._database = database
        self._rows = rows
        self._patience_s = patience_s
        self._line: _Line = []
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._missed_at: float | None = None
        self._number = 0
        self._fenced: Fenced | None = None
        self.commits = 0

    async def open(self) -> None:
        try:
            await self._patiently(self._database.open)
        except BaseException:
            await self._database.close()
            raise
        self._worker = asyncio.create_task(self._work(), name=f"{self._database.name} writer")

    async def close(self) -> None:
        """Finish what was submitted."""
        worker, self._worker = self._worker, None
        if worker is not None:
            self._arrived.set()
            await worker
            await self._database.close()

    # --- writes ---

    async def append(self, request: AppendTurns, now_us: int) -> Appended:
        return await self._write(partial(decide.need_append, request), partial(decide.append, request, now_us))

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        return await self._write(partial(decide.need_head, request), partial(decide.create, request, now_us))

    async def update(self, request: UpdateSession, now_us: int) -> SessionInfo:
        return await self._write(partial(decide.need_head, request), partial(decide.update, request, now_us))

    async def fork(self, request: ForkSession, now_us: int) -> SessionInfo:
        return await self._write(partial(decide.need_fork, request), partial(decide.fork, request, now_us))

    async def close_session(self, request: CloseSession, now_us: int) -> SessionInfo:
        return await self._write(partial(decide.need_head, request), partial(decide.close, request, now_us))

    async def roll_back(self, request: RollBackRun, now_us: int) -> SessionInfo:
        return await self._write(partial(decide.need_roll_back, request), partial(decide.roll_back, request, now_us))

    async def delete(self, request: DeleteSession) -> None:
        await self._write(partial(decide.need_delete, request), partial(decide.delete, request))

    async def erase(self, request: EraseUser) -> Erased:
        return await self._write(partial(decide.need_erase, request), partial(decide.erase, request))

    async def expire(self, now_us: int, timeout_s: float, max_s: float, limit: int = 1000) -> int:
        idle = Idle(rules.before(now_us, timeout_s), rules.before(now_us, max_s), limit)
        return await self._write(partial(decide.need_expire, idle), partial(decide.expire, idle))

    async def import_session(self, request: ImportSession) -> SessionInfo:
        return await self._write(partial(decide.need_import, request), partial(decide.import_session, request))

    async def rekey(self, limit: int = 100) -> int:
        return await self._write(partial(decide.need_rekey, limit), partial(decide.rekey, limit))

    async def write_records(self, request: WriteRecords, now_us: int) -> Written:
        return await self._write(partial(of_records.need_write, request), partial(of_records.write, request, now_us))

    async def erase_records(self, request: EraseRecords) -> ErasedRecords:
        return await self._write(partial(of_records.need_erase, request), partial(of_records.erase, request))

    async def import_records(self, request: ImportRecords) -> None:
        await self._write(partial(of_records.need_import, request), partial(of_records.import_records, request))

    async def expire_records(self, now_us: int, limit: int = 1000) -> int:
        expired = Expired(now_us, limit)
        return await self._write(partial(of_records.need_expire, expired), partial(of_records.expire, expired))

    async def rekey_records(self, limit: int = 100) -> int:
        return await self._write(partial(of_records.need_rekey, limit), partial(of_records.rekey, limit))

    # --- reads ---

    async def get(self, request: GetSession) -> SessionInfo:
        key = (request.tenant, request.session_id)
        check_names(*key)
        head = await self._read(partial(self._database.head, key))
        if head is None:
            raise rules.unknown(request.session_id)
        return head.info

    async def history(self, request: GetHistory) -> History:
        check_names(request.tenant, request.session_id)
        found = await self._read(partial(self._database.history, request))
        if found is None:
            raise rules.unknown(request.session_id)
        return History(*found)

    async def list(self, request: ListSessions) -> SessionList:
        check_names(request.tenant, request.user_id)
        return SessionList(await self._read(partial(self._database.page, request)))

    async def tenants(self) -> Sequence[str]:
        return await self._read(self._database.tenants)

    async def read_records(self, request: ReadRecords, now_us: int) -> Records:
        check_read(request)
        check_names(request.tenant, request.kind, request.after, *request.names)
        return await self._read(partial(self._database.read_records, request, now_us))

    async def list_records(self, request: ListRecords) -> RecordList:
        return await self._read(partial(self._database.list_records, request))

    # --- how ---

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        self._check_open()
        return await self._patiently(read)

    async def _write(self, need: Callable[[Needs], None], decide: Callable[[Draft], Callable[[], T]]) -> T:
        self._check_open()
        needs = Needs()
        need(needs)
        needs.check()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._line.append(_Job(needs, decide, answer))
        self._arrived.set()
        return await answer

    def _check_open(self) -> None:
        if self._worker is None:
            raise StorageError(f"the session store in {self._database.name} is closed")
        if self._fenced is not None:
            raise Fenced(self._fenced.message, **self._fenced.details)

    async def _work(self) -> None:
        while self._worker is not None or self._line:
            await self._arrived.wait()
            self._arrived.clear()
            while self._line:
                batch, self._line = self._line[:MAX_BATCH], self._line[MAX_BATCH:]
                await self._answer([job for job in batch if not job.answer.done()])

    async def _answer(self, batch: _Line) -> None:
        """Whatever happens, everybody hears of it."""
        try:
            await self._commit(batch)
        except Exception as error:
            if isinstance(error, Fenced):
                self._fenced = error
            for job in batch:
                _settle(job, error=error)

    async def _commit(self, batch: _Line) -> None:
        while True:
            needs = Needs()
            for job in batch:
                needs.add(job.needs)
            found = await self._patiently(partial(self._database.load, needs))
            draft = Draft(found, self._rows)
            decided = [(job, *_decision(job, draft)) for job in batch]
            readings = draft.readings()
            if readings:
                ranges = [reading.stored for reading in readings if reading.stored is not None]
                turns = await self._patiently(partial(self._database.ranges, ranges))
                for reading, read in zip(readings, turns, strict=True):
                    reading.read(read)
            if not draft.change or await self._written(draft, found.batch):
                break
        for job, reply, error in decided:
            if reply is not None:
                _settle(job, reply())
            else:
                _settle(job, error=error)

    async def _written(self, draft: Draft, after: int) -> bool:
        self._number = max(self._number, after) + 1
        committed = await self._patiently(partial(self._database.commit, draft.change, after, self._number))
        self.commits += committed
        return committed

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` returns, tried again while the server is away. Raises `Unavailable` once it has been away for
        `patience_s`: from then on every request tries once, so that the first one finds it back."""
        now, pause_s = asyncio.get_running_loop().time, FIRST_PAUSE_S
        while True:
            try:
                result = await call()
            except Away as away:
                if self._missed_at is None:
                    self._missed_at = now()
                if now() >= self._missed_at + self._patience_s:
                    raise Unavailable(
                        f"{self._database.name}, which keeps the sessions, does not answer ({away}): try again shortly",
                        retry_after_s=1,
                    ) from away
            else:
                self._missed_at = None
                return result
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _decision(job: _Job, draft: Draft) -> tuple[Callable[[], Any] | None, Exception | None]:
    """What one request is refused for, or breaks on, is its own affair."""
    try:
        return job.decide(draft), None
    except Exception as error:
        return None, error


def _settle(job: _Job, value: Any = None, error: Exception | None = None) -> None:
    if job.answer.done():
        return
    if error is None:
        job.answer.set_result(value)
    else:
        job.answer.set_exception(error)
