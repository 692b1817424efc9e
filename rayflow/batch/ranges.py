"""The ledger of a job: which rows are finished, range by range.

The input is thought of as ranges of `ROWS` ordinals. A range has its own part of the results (`parts`) and, while rows
of it are being run, its own journal: one JSON line for each finished row, handed to the operating system before the row
counts as finished, so that a killed process loses none, and to the disk twice a second, so that a power cut loses the
last half second. When all rows of a range are finished its journal is merged into its part.

Since a row belongs to one range by its number alone, no index of all rows is needed, on disk or in memory: what is
known at a time is which rows of the ranges in work are finished, and that comes from their parts. So a job of a million
rows takes no more memory than one of ten thousand, and resuming is a join of two streams in the same order.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rayflow.app.durable import storage_errors
from rayflow.batch import parts
from rayflow.batch.directory import JobDirectory, number_of
from rayflow.batch.row import Row
from rayflow.batch.status import Totals

ROWS = 8192
"""Eight row groups. Fewer make many files, more a longer wait for the first."""


def range_of(ordinal: int) -> int:
    """The number of the range of a row."""
    return (ordinal - 1) // ROWS


class Finished(msgspec.Struct, frozen=True):
    """What is known of a row that is in a part. `counts`: of a failed one."""

    key: str
    failed: bool
    counts: Totals | None = None


class Range:
    """A range in work. For one thread at a time, but for `sync`. `totals`: what its rows add to. `lease`: under which
    another process works on it than the one that owns the job; its journal must be there already."""

    def __init__(self, directory: JobDirectory, number: int, totals: Totals | None = None, lease: str = "") -> None:
        self.number = number
        self.lease = lease
        self.totals = totals or Totals()
        self.pending = 0
        """Rows that are handed out and not finished."""
        self.passed = False
        """Whether the input was read beyond it."""
        self._part = directory.part(number)
        self._journal = directory.journal_of(number, lease)
        self._finished = dict(_finished(self._part)) if self._part.exists() else {}
        self._descriptor: int | None = None
        self._end = 0
        self._synced = 0
        self._closing = threading.Lock()

    def finished(self, ordinal: int) -> Finished | None:
        """What an earlier start made of a row."""
        return self._finished.get(ordinal)

    def add(self, row: Row) -> None:
        """The row is there; from here on no kill of this process can cost it. Raises as `append`."""
        self.append(row)
        before = self.finished(row.ordinal)
        if before is not None and before.counts is not None:
            self.totals.add(before.counts, -1)
        self.totals.add(counts(row))

    def append(self, row: Row) -> None:
        """Hand one row to the operating system: microseconds, so it may be called on an event loop.

        Raises `StorageFull` or `StorageError`; then the journal is as it was before.
        """
        data = msgspec.json.encode(row) + b"\n"
        with storage_errors(self._journal):
            if self._descriptor is None:
                # A lease that was taken back has no journal any more, and must not get one.
                flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (0 if self.lease else os.O_CREAT)
                self._descriptor = os.open(self._journal, flags, 0o666)
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._descriptor, data[written:])
            except OSError:
                os.ftruncate(self._descriptor, self._end)
                raise
        self._end += len(data)

    def sync(self) -> None:
        """Wait until all rows so far are on disk. Does nothing where they are. Raises `StorageError`."""
        end = self._end
        with self._closing:
            if self._descriptor is not None and end > self._synced:
                with storage_errors(self._journal):
                    os.fsync(self._descriptor)
                self._synced = end

    def close(self) -> None:
        """All rows so far are on disk, and nothing may be appended afterwards. Raises `StorageError`."""
        self.sync()
        self.drop()

    def merge(self) -> None:
        """The rows so far become part of the results; nothing may be appended afterwards. Raises `StorageError`."""
        self.drop()
        if self._end:
            parts.merge(self._part, self._journal)

    def drop(self) -> None:
        """Nothing may be appended from here on."""
        with self._closing:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def recover(directory: JobDirectory) -> Totals:
    """Merge what a killed start has left, and count what the job has so far. Raises `StorageError`."""
    for journal in directory.journals():
        parts.merge(directory.part(number_of(journal)), journal)
    totals = Totals()
    for part in directory.parts():
        totals.add(parts.totals_of(part))
    return totals


def counts(row: Row) -> Totals:
    """What one row adds to the totals."""
    failed = row.status == "error"
    return Totals(
        rows=1,
        ok=not failed,
        failed=failed,
        turns=len(row.answers),
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cost_usd=row.cost_usd or 0.0,
        errors={row.error: 1} if row.error else {},
    )


_COLUMNS = ["ordinal", "key", "status", "error", "agents", "prompt_tokens", "completion_tokens", "cost_usd"]


def _finished(part: Path) -> Iterator[tuple[int, Finished]]:
    for batch in parts.read(part, _COLUMNS):
        keys, states = batch.column("key").to_pylist(), batch.column("status").to_pylist()
        for place, ordinal in enumerate(batch.column("ordinal").to_pylist()):
            if states[place] == "ok":
                yield ordinal, Finished(keys[place], False)
            else:
                row = {name: batch.column(name)[place].as_py() for name in _COLUMNS}
                # There is an entry for each answer, and this column is the smaller one.
                row |= {"id": "", "answers": [""] * len(row["agents"])}
                yield ordinal, Finished(keys[place], True, counts(msgspec.convert(row, Row)))
