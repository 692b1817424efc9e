"""Open segments: where events are from the moment they are acknowledged until they are rolled to Parquet.

A file of records that is only ever appended to. A record is a batch as it came from an actor: lines of JSON, which
nobody reads before they are converted by the thousands. Around it stand its sender, the number of its first event there
(`event_id` is the two of them) and a checksum.

The head of the file says how much of it is committed. Records are written first, then the head, then they are
acknowledged; so readers find whole batches up to the mark, whatever happens to the writer, and a file that is shorter
than its mark was cut off. What stands behind the mark was never acknowledged: readers leave it out, and whoever takes
over the file of a dead writer takes what is whole of it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from rayflow.analytics.files import OPEN, move_file, new_name, staging_folder

_MAGIC = b"rayflow open 2\n\0"
_HEAD = Struct("<16sQI")
"""Magic, committed length, CRC-32 of both."""
_MARK = b"\xf5RFB"
"""Starts a record, so that the next one is found behind a damaged one. No UTF-8 has its first byte."""
_RECORD = Struct("<4sIQIIH")
"""Mark, CRC-32 of all that follows it, number of the first event, of events, bytes of the lines and of the origin."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events `first` to `first + count - 1` of `origin`. `lines`: of JSON, one each."""

    origin: str
    first: int
    count: int
    lines: bytes | memoryview

    def encode(self) -> bytes:
        origin = self.origin.encode()
        head = _RECORD.pack(_MARK, 0, self.first, self.count, len(self.lines), len(origin))[8:]
        record = b"".join((head, origin, self.lines))
        return _MARK + zlib.crc32(record).to_bytes(4, "little") + record


def _head(committed: int) -> bytes:
    head = _HEAD.pack(_MAGIC, committed, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


class OpenSegment:
    """Its one writer. It holds a lock on the file, which ends with the process: so others see whether it lives."""

    def __init__(self, root: Path, source: str) -> None:
        """Make a new one. Raises `OSError`."""
        self.name = new_name(source, ".events")
        self.path = root / OPEN / self.name
        staged = staging_folder(root) / f"{os.getpid()}-{secrets.token_hex(8)}.tmp"
        self._file = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            os.pwrite(self._file, _head(_HEAD.size), 0)
            os.fsync(self._file)
            move_file(staged, self.path)
        except OSError:
            os.close(self._file)
            staged.unlink(missing_ok=True)
            raise
        self.size = _HEAD.size
        self._synced = self.size

    @property
    def empty(self) -> bool:
        return self.size == _HEAD.size

    def append(self, batches: Iterable[Batch]) -> None:
        """Returns when they survive the death of this process and are seen by readers. Raises `OSError`; then none of
        them is in the log, and the call may be repeated."""
        data = b"".join(batch.encode() for batch in batches)
        try:
            _write(self._file, data, self.size)
            _write(self._file, _head(self.size + len(data)), 0)
        except OSError:
            os.ftruncate(self._file, self.size)  # takes no room, and nothing half-written stays
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Returns when what was appended survives a power cut. Raises `OSError`."""
        size = self.size
        if size > self._synced:
            os.fsync(self._file)
            self._synced = size

    def close(self) -> None:
        """Nothing more is appended: from now on anybody may roll it."""
        os.close(self._file)


def _write(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


@dataclass(slots=True)
class Contents:
    """What an open segment holds. `damage`: "" where all that was committed is there."""

    batches: list[Batch] = field(default_factory=list)
    damage: str = ""
    end: int = 0
    """Where the last batch ends."""

    @property
    def rows(self) -> int:
        return sum(batch.count for batch in self.batches)


def read_open(path: Path, behind_mark: bool = False) -> Contents:
    """All whole batches up to the mark, or also those behind it. Raises `OSError`."""
    with path.open("rb") as file:
        committed = _committed(file.fileno())
        data = file.read() if behind_mark or committed is None else file.read(committed)
    if committed is None:
        return Contents([batch for batch, _, _ in _records(data, _HEAD.size)], "its head is damaged")
    found = Contents()
    end = _HEAD.size
    for batch, start, stop in _records(data, end):
        if start != end and end < committed:
            found.damage = found.damage or f"damaged at byte {end}"
        found.batches.append(batch)
        end = stop
    if len(data) < committed:
        found.damage = f"cut off at byte {len(data)} of {committed}"
    elif end < committed:
        found.damage = found.damage or f"damaged at byte {end}"
    found.end = end
    return found


def recover(path: Path) -> Contents:
    """What a dead writer left. Whole batches behind its mark become part of the log: who sends them again is told that
    they are there, so readers must see them. Raises `OSError`."""
    lock = take_over(path)
    if lock is None:  # it is being rolled, with all that is whole of it
        return read_open(path, behind_mark=True)
    try:
        contents = read_open(path, behind_mark=True)
        if not contents.damage and contents.end > (_committed(lock) or contents.end):
            _write(lock, _head(contents.end), 0)
            os.fsync(lock)
        return contents
    finally:
        os.close(lock)


class OpenReader:
    """Reads an open segment while it is written, and to its end also when it was deleted meanwhile. `at`: byte that the
    next record starts at. Raises `OSError`."""

    def __init__(self, path: Path, at: int = 0) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.at = max(at, _HEAD.size)

    @property
    def left(self) -> int:
        """Bytes up to the mark that were not read."""
        return max(0, (_committed(self._file) or 0) - self.at)

    def read(self, limit: int) -> list[Batch]:
        """The next whole batches, of about `limit` bytes; none where there are none. What is damaged is passed over."""
        left = self.left
        for size in (min(left, limit), left):
            batches = [(batch, stop) for batch, _, stop in _records(os.pread(self._file, size, self.at), 0)]
            if batches:
                self.at += batches[-1][1]
                return [batch for batch, _ in batches]
        self.at += left
        return []

    def close(self) -> None:
        os.close(self._file)


def ends(batches: Iterable[Batch]) -> dict[str, int]:
    """The number after the last event of each sender."""
    found: dict[str, int] = {}
    for batch in batches:
        found[batch.origin] = max(found.get(batch.origin, 0), batch.first + batch.count)
    return found


def _committed(file: int) -> int | None:
    """The mark; None where the head is damaged."""
    for _ in range(100):
        head = os.pread(file, _HEAD.size, 0)
        if len(head) == _HEAD.size:
            _, committed, _ = _HEAD.unpack(head)
            if head == _head(committed):
                return int(committed)
        # A head that is being written may be read half old and half new.
    return None


def _records(data: bytes, at: int) -> Iterator[tuple[Batch, int, int]]:
    """Every whole record, with where it starts and ends."""
    view = memoryview(data)
    while (at := data.find(_MARK, at)) >= 0:
        if at + _RECORD.size > len(data):
            return
        _, crc, first, count, size, origin_size = _RECORD.unpack_from(data, at)
        body = at + _RECORD.size
        end = body + origin_size + size
        if end > len(data) or zlib.crc32(view[at + 8 : end]) != crc:
            at += 1
            continue
        origin = bytes(view[body : body + origin_size]).decode()
        yield Batch(origin, first, count, view[body + origin_size : end]), at, end
        at = end


def take_over(path: Path) -> int | None:
    """A lock on an open segment whose writer is dead or has closed it, to be closed; None where somebody has it.
    Raises `OSError`."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
