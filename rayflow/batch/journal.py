"""The ledger of a job and its only source of truth: one JSON line for each finished item, appended as it finishes.

A row and the fact that its item is finished are one line, so no crash can part them. A line reaches the operating
system before the item counts as finished (a killed process loses nothing) and the disk with the next `sync` (a power
cut loses the last half second). Of several lines for one ordinal the last one counts. In memory an item takes nine
bytes.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from rayflow.batch.durable import storage_errors
from rayflow.batch.row import Row
from rayflow.errors import StorageError

_ABSENT = -1


class _Key(msgspec.Struct):
    """As much of a row as the index needs."""

    ordinal: int
    status: Literal["ok", "error"]


class Journal:
    """Open for appending; a torn last line, left by a crash, is cut off. One process at a time (`folder` sees to it).

    Raises `StorageError` where a line other than the last one is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ok = 0
        self.failed = 0
        self._offsets = array("q")
        self._is_failed = bytearray()
        self._end = 0
        self._synced = 0
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def count(self) -> int:
        """Number of items that have a row."""
        return self.ok + self.failed

    def has(self, ordinal: int) -> bool:
        return ordinal <= len(self._offsets) and self._offsets[ordinal - 1] != _ABSENT

    def has_failed(self, ordinal: int) -> bool:
        return self.has(ordinal) and bool(self._is_failed[ordinal - 1])

    def get(self, ordinal: int) -> Row | None:
        if not self.has(ordinal):
            return None
        with storage_errors(self.path), self.path.open("rb") as file:
            file.seek(self._offsets[ordinal - 1])
            return msgspec.json.decode(file.readline(), type=Row)

    def append(self, row: Row) -> None:
        """Hand one row to the operating system: microseconds, so it may be called on an event loop.

        Raises `StorageFull` or `StorageError`; then the journal is as it was before.
        """
        data = msgspec.json.encode(row) + b"\n"
        with storage_errors(self.path):
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._descriptor, data[written:])
            except OSError:
                os.ftruncate(self._descriptor, self._end)
                raise
        self._index(row.ordinal, row.status == "error", self._end)
        self._end += len(data)

    def sync(self) -> None:
        """Wait until all rows so far are on disk. Does nothing where they are. Safe to call in a thread."""
        end = self._end
        if end > self._synced:
            with storage_errors(self.path):
                os.fsync(self._descriptor)
            self._synced = end

    def lines(self) -> Iterator[bytes]:
        """The row of each item as JSON with its line break, in the order of the input."""
        # Items finish almost in order, so nearly every seek stays within the buffer of the file object.
        with storage_errors(self.path), self.path.open("rb") as file:
            for offset in self._offsets:
                if offset != _ABSENT:
                    file.seek(offset)
                    yield file.readline()

    def close(self) -> None:
        os.close(self._descriptor)

    def _recover(self) -> None:
        decoder = msgspec.json.Decoder(_Key)
        damaged = _ABSENT
        line = b"\n"
        with storage_errors(self.path), self.path.open("rb") as file:
            for line in file:
                if damaged != _ABSENT:
                    raise StorageError(
                        f"{self.path}: the line at byte {damaged} is damaged; restore the file, or use --overwrite"
                    )
                try:
                    key = decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    damaged = self._end
                else:
                    self._index(key.ordinal, key.status == "error", self._end)
                    self._end += len(line)
            if damaged != _ABSENT:
                os.ftruncate(self._descriptor, self._end)
            elif not line.endswith(b"\n"):
                self._end += os.write(self._descriptor, b"\n")

    def _index(self, ordinal: int, failed: bool, offset: int) -> None:
        missing = ordinal - len(self._offsets)
        if missing > 0:
            self._offsets.extend([_ABSENT] * missing)
            self._is_failed.extend(bytes(missing))
        if self._offsets[ordinal - 1] != _ABSENT:
            self._add(bool(self._is_failed[ordinal - 1]), -1)
        self._offsets[ordinal - 1] = offset
        self._is_failed[ordinal - 1] = failed
        self._add(failed, 1)

    def _add(self, failed: bool, number: int) -> None:
        if failed:
            self.failed += number
        else:
            self.ok += number
