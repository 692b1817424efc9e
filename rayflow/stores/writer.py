"""One thread that writes one SQLite file, with one commit for all requests that arrive while the disk is busy.

An fsync costs the same for one write as for a hundred. Requests therefore queue up in memory; a single writer thread
takes all of them, applies them in one transaction, commits once, and only then answers. Every answer means durable
(`synchronous = FULL`). Reads go the same way, which keeps them behind the writes they may depend on; when the commit
fails (a full disk), they are read again and answered all the same. Whoever opens the file next takes it over
(`sqlite_file`): from then on this writer answers nothing but `Fenced`.

Both threads share one interpreter lock, so they hand over in bulk: all requests of one round of the event loop wake the
writer once, and a commit wakes the loop once.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from rayflow.errors import Fenced, StorageError, WorkflowError
from rayflow.stores.sqlite_faults import fault
from rayflow.stores.sqlite_file import OwnedFile, Schema

MAX_BATCH = 512
"""A commit with so many requests takes no more: bounds how long the first of them waits."""

T = TypeVar("T")


class _Job(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    answer: asyncio.Future[Any]
    reads: bool


class SqliteWriter:
    """`path`: the database file; its folder is made. Opening raises `StorageError` where the file cannot be used.

    A job is a function of the database: it may run twice, where the first time was rolled back.
    """

    def __init__(self, path: Path, schema: Schema, synchronous: str = "FULL") -> None:
        self._path = path
        self._schema = schema
        self._synchronous = synchronous
        self._line: list[_Job] = []
        """What this round of the loop has brought."""
        self._lines: SimpleQueue[list[_Job] | None] = SimpleQueue()
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

    async def close(self) -> None:
        """Finish what was submitted and close the file."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._hand_over()
            self._lines.put(None)
            await asyncio.to_thread(thread.join)

    async def submit(self, job: Callable[[sqlite3.Connection], T], *, reads: bool = False) -> T:
        """What `job` returns, once it is durable. Jobs are applied in the order in which this was called."""
        if self._thread is None or self._loop is None:
            raise StorageError(f"{self._schema.what} is closed", path=str(self._path))
        answer: asyncio.Future[T] = self._loop.create_future()
        if not self._line:
            self._loop.call_soon(self._hand_over)
        self._line.append(_Job(job, answer, reads))
        return await answer

    def _hand_over(self) -> None:
        line, self._line = self._line, []
        for i in range(0, len(line), MAX_BATCH):
            self._lines.put(line[i : i + MAX_BATCH])

    # --- in the writer thread ---

    def _work(self, opened: asyncio.Future[None]) -> None:
        try:
            file = OwnedFile(self._path, self._schema, self._synchronous)
        except (sqlite3.Error, OSError, WorkflowError) as error:
            self._answer([(opened, None, self._fault(error))])
            return
        self._answer([(opened, None, None)])
        running = True
        while running:
            batch, running = self._take()
            if batch:
                self._answer(self._commit(file, batch))
        file.db.close()

    def _answer(self, results: list[_Result]) -> None:
        assert self._loop is not None, "the thread starts after it is set"
        self._loop.call_soon_threadsafe(_settle, results)

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for requests, then take all that are already there."""
        batch: list[_Job] = []
        while (line := self._lines.get()) is not None:
            batch += line
            if len(batch) >= MAX_BATCH or self._lines.empty():
                return batch, True
        return batch, False

    def _commit(self, file: OwnedFile, batch: list[_Job]) -> list[_Result]:
        db = file.db
        try:
            results = self._apply(file, batch)
            db.execute("commit")
        except (sqlite3.Error, Fenced) as error:
            self._roll_back(db)
            # Nothing of this batch is durable, so nobody may hear otherwise, not even those whose own statements
            # worked.
            return [self._again(file, job) if job.reads else (job.answer, None, self._fault(error)) for job in batch]
        self.commits += 1
        return results

    def _apply(self, file: OwnedFile, batch: list[_Job]) -> list[_Result]:
        """All requests in a new transaction. What one is refused for, or breaks on, is its own affair; only an error of
        the database is everybody's.

        Hardly any fails after it has written something. Where one does, all begin again, each with a savepoint to
        return to, which would be a waste otherwise.
        """
        db = file.db
        for savepoints in (False, True):
            db.execute("begin immediate")
            file.check_owner()
            results: list[_Result] = []
            for job in batch:
                before = db.total_changes
                if savepoints:
                    db.execute("savepoint job")
                try:
                    results.append((job.answer, job.run(db), None))
                except sqlite3.Error:
                    raise
                except Exception as error:
                    if savepoints:
                        db.execute("rollback to job")
                        self._rolled_back()
                    elif db.total_changes != before:
                        break
                    results.append((job.answer, None, error))
                if savepoints:
                    db.execute("release job")
            else:
                return results
            self._roll_back(db)
        raise AssertionError("with savepoints nobody is left out")

    def _roll_back(self, db: sqlite3.Connection) -> None:
        if db.in_transaction:
            db.execute("rollback")
        self._rolled_back()

    def _rolled_back(self) -> None:
        """What jobs of this batch have left elsewhere is no longer true."""

    def _again(self, file: OwnedFile, job: _Job) -> _Result:
        """A read that shared its batch with a write that failed."""
        try:
            file.check_owner()
            return job.answer, job.run(file.db), None
        except Exception as error:
            return job.answer, None, self._fault(error) if isinstance(error, sqlite3.Error) else error

    def _fault(self, error: Exception) -> WorkflowError:
        return fault(error, self._schema.what, self._path)


_Result = tuple["asyncio.Future[Any]", Any, "Exception | None"]


def _settle(results: list[_Result]) -> None:
    for answer, value, error in results:
        if answer.done():
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
