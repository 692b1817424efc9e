"""Sessions in SQLite: one file per shard, WAL, and one commit for all writes that arrive while the disk is busy.

An fsync costs the same for one turn as for a hundred. Requests therefore queue up in memory; a single writer thread
takes all of them, applies each in a savepoint of one transaction, commits once, and only then answers. Every answer
means durable (`synchronous = FULL`). Reads go the same way, which keeps them behind the writes they may depend on.

Repeating an append with the same run id and roles writes nothing: it returns what is there, so a caller that does not
know whether its first try arrived may simply try again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar, cast

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

SCHEMA_VERSION = 1
MAX_BATCH = 512
"""Most requests of one commit: bounds how long the first of them waits."""
REPEAT_SPAN = 64
"""How many turns back a repeated append is recognised; a session has one writer, so a repeat follows its first try
closely."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_metadata = msgspec.json.Decoder(dict[str, Any]).decode

_Job = tuple[Callable[[sqlite3.Connection], Any], "asyncio.Future[Any]"]


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
        await opened

    async def append(self, request: AppendTurns, now_us: int) -> Appended:
        return await self._submit(lambda db: _append(db, request, now_us))

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        return await self._submit(lambda db: _create(db, request, now_us))

    async def get(self, request: GetSession) -> SessionInfo:
        return await self._submit(lambda db: _info(db, request.tenant, request.session_id))

    async def history(self, request: GetHistory) -> History:
        return await self._submit(lambda db: _history(db, request))

    async def delete(self, request: DeleteSession) -> None:
        await self._submit(lambda db: _delete(db, request))

    async def close(self) -> None:
        """Finish what was submitted and close the file."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def _submit(self, job: Callable[[sqlite3.Connection], T]) -> T:
        if self._thread is None or self._loop is None:
            raise StorageError("the session store is closed", path=str(self._path))
        answer: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, answer))
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
                results = self._commit(db, batch)
                self._answer(results)
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
        results: list[_Result] = []
        try:
            db.execute("begin immediate")
            for job, answer in batch:
                results.append((answer, *self._apply(db, job)))
            db.execute("commit")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("rollback")
            # Nothing of this batch is durable, so nobody may hear otherwise, not even those whose own statements
            # worked.
            failure = _translate(error, self._path)
            return [(answer, None, failure) for _, answer in batch]
        self.commits += 1
        return results

    def _apply(
        self, db: sqlite3.Connection, job: Callable[[sqlite3.Connection], Any]
    ) -> tuple[Any, WorkflowError | None]:
        """One request inside the batch's transaction. Jobs check before they write, so one that raises has written
        nothing."""
        try:
            return job(db), None
        except WorkflowError as error:
            return None, error


_Result = tuple["asyncio.Future[Any]", Any, "WorkflowError | None"]


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
    if "full" in str(error):
        return StorageFull(f"no space left for sessions at {path}: free some space; nothing was lost", path=str(path))
    return StorageError(f"session store {path}: {error}", path=str(path))


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, cached_statements=64, check_same_thread=False)
    db.execute("pragma journal_mode = wal")
    db.execute(f"pragma synchronous = {synchronous}")
    db.execute("pragma busy_timeout = 5000")
    version = db.execute("pragma user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        db.close()
        raise StorageError(
            f"{path} was written by a newer rayflow (schema {version}, this one knows {SCHEMA_VERSION}):"
            " upgrade rayflow",
            path=str(path),
            schema_version=version,
        )
    db.executescript(files("rayflow.stores").joinpath("sql/sqlite_schema.sql").read_text())
    db.execute(f"pragma user_version = {SCHEMA_VERSION}")
    return db


def _head(db: sqlite3.Connection, tenant: str, session_id: str) -> int | None:
    row = db.execute(
        "select last_seq from sessions where tenant = ? and session_id = ?", (tenant, session_id)
    ).fetchone()
    return row[0] if row else None


def _append(db: sqlite3.Connection, request: AppendTurns, now_us: int) -> Appended:
    tenant, session_id = request.tenant, request.session_id
    head = _head(db, tenant, session_id)
    if head and request.run_id and request.messages:
        repeated = _written(db, request, head)
        if repeated is not None:
            return Appended(repeated, window=_tail(db, request, repeated - len(request.messages)))
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


def _written(db: sqlite3.Connection, request: AppendTurns, head: int) -> int | None:
    """The last number this very append got earlier, or None when it was not made."""
    (seq,) = db.execute(
        "select max(seq) from turns where tenant = ? and session_id = ? and seq > ? and run_id = ? and role = ?",
        (request.tenant, request.session_id, head - REPEAT_SPAN, request.run_id, request.messages[-1].role),
    ).fetchone()
    return cast("int | None", seq)


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
