"""Sessions in SQLite: one file per shard, WAL, and one commit for all writes that arrive while the disk is busy.

An fsync costs the same for one turn as for a hundred. Requests therefore queue up in memory; a single writer thread
takes all of them, applies each in a savepoint of one transaction, commits once, and only then answers. Every answer
means durable (`synchronous = FULL`). Reads go the same way, which keeps them behind the writes they may depend on; when
the commit fails (a full disk), they are read again and answered all the same.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from errno import ENOSPC
from importlib.resources import files
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import msgspec

from rayflow.chat import Message
from rayflow.errors import Conflict, NotFound, StorageError, StorageFull, WorkflowError
from rayflow.messages import (
    Appended,
    AppendTurns,
    CreateSession,
    DeleteSession,
    GetHistory,
    GetSession,
    History,
    SessionInfo,
    Turn,
)
from rayflow.stores.repeat import repeated

SCHEMA_VERSION = 1
MAX_BATCH = 512
"""Most requests of one commit: bounds how long the first of them waits."""
REPEAT_SPAN = 64
"""How many turns back, before its own length, a repeated append is recognised; a session has one writer, so a repeat
follows its first try closely."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_metadata = msgspec.json.Decoder(dict[str, Any]).decode


class _Job(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    answer: asyncio.Future[Any]
    reads: bool


class SqliteStore:
    """One shard. `path`: the database file; its folder is made. Raises `StorageError` where the file cannot be used."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        self._path = path
        self._synchronous = synchronous
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commits = 0

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._work, args=(opened,), name="sqlite-writer", daemon=True)
        self._thread.start()
        try:
            await opened
        except WorkflowError:
            self._thread = None
            raise

    async def append(self, request: AppendTurns, now_us: int) -> Appended:
        return await self._submit(lambda db: _append(db, request, now_us))

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        return await self._submit(lambda db: _create(db, request, now_us))

    async def get(self, request: GetSession) -> SessionInfo:
        return await self._submit(lambda db: _info(db, request.tenant, request.session_id), reads=True)

    async def history(self, request: GetHistory) -> History:
        return await self._submit(lambda db: _history(db, request), reads=True)

    async def delete(self, request: DeleteSession) -> None:
        await self._submit(lambda db: _delete(db, request))

    async def close(self) -> None:
        """Finish what was submitted and close the file."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    async def _submit(self, job: Callable[[sqlite3.Connection], T], *, reads: bool = False) -> T:
        if self._thread is None or self._loop is None:
            raise StorageError("the session store is closed", path=str(self._path))
        answer: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(job, answer, reads))
        return await answer

    # --- in the writer thread ---

    def _work(self, opened: asyncio.Future[None]) -> None:
        try:
            db = _connect(self._path, self._synchronous)
        except (sqlite3.Error, OSError, WorkflowError) as error:
            self._answer([(opened, None, _translate(error, self._path))])
            return
        self._answer([(opened, None, None)])
        running = True
        while running:
            batch, running = self._take()
            if batch:
                self._answer(self._commit(db, batch))
        db.close()

    def _answer(self, results: list[_Result]) -> None:
        assert self._loop is not None, "the thread starts after it is set"
        self._loop.call_soon_threadsafe(_settle, results)

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for one request, then take everything that is already there."""
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == MAX_BATCH or self._jobs.empty():
                return batch, True
            job = self._jobs.get()
        return batch, False

    def _commit(self, db: sqlite3.Connection, batch: list[_Job]) -> list[_Result]:
        try:
            db.execute("begin immediate")
            results = [_apply(db, job) for job in batch]
            db.execute("commit")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("rollback")
            # Nothing of this batch is durable, so nobody may hear otherwise, not even those whose own statements
            # worked.
            return [self._again(db, job) if job.reads else (job.answer, None, self._fault(error)) for job in batch]
        self.commits += 1
        return results

    def _again(self, db: sqlite3.Connection, job: _Job) -> _Result:
        """A read that shared its batch with a write that failed."""
        try:
            return job.answer, job.run(db), None
        except Exception as error:
            return job.answer, None, self._fault(error) if isinstance(error, sqlite3.Error) else error

    def _fault(self, error: Exception) -> WorkflowError:
        return _translate(error, self._path)


_Result = tuple["asyncio.Future[Any]", Any, "Exception | None"]


def _apply(db: sqlite3.Connection, job: _Job) -> _Result:
    """One request inside the batch's transaction. What one request is refused for, or breaks on, is its own affair;
    only an error of the database is everybody's."""
    db.execute("savepoint job")
    try:
        result: _Result = (job.answer, job.run(db), None)
    except sqlite3.Error:
        raise
    except Exception as error:
        db.execute("rollback to job")
        result = (job.answer, None, error)
    db.execute("release job")
    return result


def _settle(results: list[_Result]) -> None:
    for answer, value, error in results:
        if answer.done():
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)


def _translate(error: Exception, path: Path) -> WorkflowError:
    if isinstance(error, WorkflowError):
        return error
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == ENOSPC:
        return StorageFull(f"no space left for sessions at {path}: free some space; nothing was lost", path=str(path))
    return StorageError(f"session store {path}: {error}", path=str(path))


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, cached_statements=64, check_same_thread=False)
    try:
        _prepare(db, path, synchronous)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path, synchronous: str) -> None:
    db.execute("pragma journal_mode = wal")
    db.execute(f"pragma synchronous = {synchronous}")
    db.execute("pragma busy_timeout = 5000")
    version = db.execute("pragma user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} was written by a newer rayflow (schema {version}, this one knows {SCHEMA_VERSION}):"
            " upgrade rayflow",
            path=str(path),
            schema_version=version,
        )
    db.executescript(files("rayflow.stores").joinpath("sql/sqlite_schema.sql").read_text())
    db.execute(f"pragma user_version = {SCHEMA_VERSION}")


def _head(db: sqlite3.Connection, tenant: str, session_id: str) -> int | None:
    row = db.execute(
        "select last_seq from sessions where tenant = ? and session_id = ?", (tenant, session_id)
    ).fetchone()
    return row[0] if row else None


def _append(db: sqlite3.Connection, request: AppendTurns, now_us: int) -> Appended:
    tenant, session_id = request.tenant, request.session_id
    head = _head(db, tenant, session_id)
    if head and request.run_id:
        seq = repeated(_written(db, request, head), [message.role for message in request.messages])
        if seq is not None:
            return Appended(seq, window=_tail(db, request, seq - len(request.messages)))
    if head is None and request.expected_seq > 0:
        raise NotFound(f"session {session_id} was deleted", kind="session", id=session_id)
    last = head or 0
    if request.expected_seq >= 0 and request.expected_seq != last:
        raise Conflict(
            f"session {session_id} is at turn {last}, not {request.expected_seq}: read it again",
            session_id=session_id,
            last_seq=last,
        )
    window = _tail(db, request, last)
    db.executemany(
        "insert into turns (tenant, session_id, seq, run_id, role, agent, status, created_us, message)"
        " values (?,?,?,?,?,?,?,?,?)",
        [
            (tenant, session_id, last + i, request.run_id, m.role, request.agent, request.status, now_us, _encode(m))
            for i, m in enumerate(request.messages, 1)
        ],
    )
    last += len(request.messages)
    if head is None:
        _insert_session(db, tenant, session_id, request.user_id, now_us, last, {})
    else:
        db.execute(
            "update sessions set last_seq = ?, updated_us = ? where tenant = ? and session_id = ?",
            (last, now_us, tenant, session_id),
        )
    return Appended(last, created=head is None, window=window)


def _written(db: sqlite3.Connection, request: AppendTurns, head: int) -> list[tuple[int, str]]:
    """Number and role of what the session has of this run, oldest first."""
    since = head - REPEAT_SPAN - len(request.messages)
    return db.execute(
        "select seq, role from turns where tenant = ? and session_id = ? and seq > ? and run_id = ? order by seq",
        (request.tenant, request.session_id, since, request.run_id),
    ).fetchall()


def _tail(db: sqlite3.Connection, request: AppendTurns, upto: int) -> list[Turn]:
    """The last `window` turns with numbers up to `upto`, oldest first."""
    if request.window == 0 or upto <= 0:
        return []
    rows = db.execute(
        "select seq, run_id, agent, status, created_us, message from turns"
        " where tenant = ? and session_id = ? and seq > ? and seq <= ? order by seq",
        (request.tenant, request.session_id, upto - request.window, upto),
    )
    return [_turn(row) for row in rows]


def _turn(row: tuple[Any, ...]) -> Turn:
    seq, run_id, agent, status, created_us, message = row
    return Turn(seq, _decode_message(message), run_id, agent, status, created_us)


def _insert_session(
    db: sqlite3.Connection, tenant: str, session_id: str, user_id: str, now_us: int, last: int, metadata: dict[str, Any]
) -> None:
    db.execute(
        "insert into sessions (tenant, session_id, user_id, created_us, updated_us, last_seq, metadata)"
        " values (?,?,?,?,?,?,?)",
        (tenant, session_id, user_id, now_us, now_us, last, _encode(metadata).decode()),
    )


def _create(db: sqlite3.Connection, request: CreateSession, now_us: int) -> SessionInfo:
    if _head(db, request.tenant, request.session_id) is not None:
        raise Conflict(f"session {request.session_id} exists already: choose another id", session_id=request.session_id)
    _insert_session(db, request.tenant, request.session_id, request.user_id, now_us, 0, request.metadata)
    return _info(db, request.tenant, request.session_id)


def _info(db: sqlite3.Connection, tenant: str, session_id: str) -> SessionInfo:
    row = db.execute(
        "select user_id, created_us, updated_us, last_seq, metadata from sessions where tenant = ? and session_id = ?",
        (tenant, session_id),
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no session {session_id}", kind="session", id=session_id)
    user_id, created_us, updated_us, last_seq, metadata = row
    return SessionInfo(session_id, tenant, user_id, created_us, updated_us, last_seq, _decode_metadata(metadata))


def _history(db: sqlite3.Connection, request: GetHistory) -> History:
    info = _info(db, request.tenant, request.session_id)
    after = max(request.after, info.turns - request.limit) if request.tail else request.after
    rows = db.execute(
        "select seq, run_id, agent, status, created_us, message from turns"
        " where tenant = ? and session_id = ? and seq > ? order by seq limit ?",
        (request.tenant, request.session_id, after, request.limit),
    )
    return History(info, [_turn(row) for row in rows])


def _delete(db: sqlite3.Connection, request: DeleteSession) -> None:
    _info(db, request.tenant, request.session_id)
    key = (request.tenant, request.session_id)
    db.execute("delete from turns where tenant = ? and session_id = ?", key)
    db.execute("delete from sessions where tenant = ? and session_id = ?", key)
