"""Segments: the Parquet files of the log, `date=YYYY-MM-DD/<time>-<source>-<random>.parquet`.

A segment is written once and never changed. It is written in the staging folder and made durable, counts from the
moment in which the manifest lists it (rayflow.analytics.manifest), and then gets its place. So a reader sees all of it
or nothing, whatever happens to the writer. Pages carry checksums, and the manifest has the digest of the whole file.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayflow.analytics.convert import to_rows
from rayflow.analytics.files import link_file, new_name, staging_folder, storage_error
from rayflow.analytics.manifest import Stored, changing, read_manifest
from rayflow.analytics.opened import Batch
from rayflow.analytics.schema import SCHEMA
from rayflow.errors import StorageError
from rayflow.events import Event, encode_lines

REPLACES_KEY = b"rayflow.replaces"
GROUP_ROWS = 1 << 16
"""Rows that share statistics: what a query skips together."""

_EPOCH = date(1970, 1, 1)
_DAY_US = 86_400_000_000


def stage_segments(root: Path, source: str, rows: pa.Table, replaces: Iterable[str]) -> list[Stored]:
    """Write `rows`, in any order, as one segment for each day (UTC), sorted by time: durable, in the staging folder.
    `replaces`: names of the files whose rows these are. Raises `OSError`; then nothing of it stays."""
    return stage_pieces(root, source, [rows], replaces)


def stage_pieces(root: Path, source: str, pieces: Iterable[pa.Table], replaces: Iterable[str]) -> list[Stored]:
    """As `stage_segments`, for rows that are not all in memory at once. Every piece is sorted; so, where pieces come in
    the order of time, are the segments but for what came late."""
    metadata = {**SCHEMA.metadata, REPLACES_KEY: msgspec.json.encode(sorted(replaces))}
    days: dict[date, _Staged] = {}
    try:
        for piece in pieces:
            for day, rows in _by_day(piece.sort_by("ts")):
                if day not in days:
                    days[day] = _Staged(root, source, day, metadata)
                days[day].write(rows)
        return [staged.finish() for staged in days.values()]
    except BaseException:
        for staged in days.values():
            staged.abandon()
        raise


class _Staged:
    """A segment that is being written."""

    def __init__(self, root: Path, source: str, day: date, metadata: dict[bytes, bytes]) -> None:
        self._segment = Stored(new_name(source, ".parquet"), day.isoformat(), 0, 0, "")
        self._path = self._segment.staged(root)
        staging_folder(root)
        self._path.parent.mkdir(exist_ok=True)
        self._file = _Digesting(self._path.open("xb"))
        self._writer = pq.ParquetWriter(
            self._file, SCHEMA.with_metadata(metadata), compression="zstd", write_page_checksum=True
        )
        self._rows = 0
        self._last_us = 0

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows.replace_schema_metadata(self._writer.schema.metadata), row_group_size=GROUP_ROWS)
        self._rows += rows.num_rows
        self._last_us = max(self._last_us, rows["ts"].cast(pa.int64())[-1].as_py())

    def finish(self) -> Stored:
        self._writer.close()
        self._file.settle()
        return msgspec.structs.replace(
            self._segment,
            rows=self._rows,
            size=self._file.size,
            digest=self._file.digest.hexdigest(),
            last_us=self._last_us,
        )

    def abandon(self) -> None:
        with suppress(OSError):
            self._writer.close()
        with suppress(OSError):
            self._file.file.close()
        self._path.unlink(missing_ok=True)


class _Digesting:
    """A file that knows the digest of what was meant to be written, whatever came to be on the disk."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes | pa.Buffer) -> int:
        view = memoryview(data)
        self.file.write(view)
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self.file.flush()

    def settle(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


def discard(root: Path, staged: Iterable[Stored]) -> None:
    """Remove segments that do not count after all. A change of the manifest that failed may have come true all the
    same: what it lists stays."""
    listed = read_manifest(root)[0].segments
    for segment in staged:
        if segment.name not in listed:
            segment.staged(root).unlink(missing_ok=True)


def settle(root: Path, listed: Iterable[Stored]) -> None:
    """Put segments that the manifest lists to their place. Raises `OSError`."""
    for segment in listed:
        link_file(segment.staged(root), segment.path(root))


def _by_day(rows: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    times = rows["ts"].cast(pa.int64())
    at = 0
    while at < rows.num_rows:
        day = times[at].as_py() // _DAY_US
        count = pc.sum(pc.less(times, (day + 1) * _DAY_US)).as_py() - at
        yield _EPOCH + timedelta(days=day), rows.slice(at, count)
        at += count


def read_rows(path: Path) -> pa.Table:
    """All rows of a segment. Raises `OSError` or `ArrowException` where a page does not match its checksum."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read()


class SegmentWriter:
    """Writes lists of events straight into segments: for imports, benchmarks and tests."""

    def __init__(self, root: Path, source: str) -> None:
        self._root = root
        self._source = source
        self._origin = secrets.token_hex(8)
        self._written = 0
        try:
            staging_folder(root)
        except OSError as problem:
            raise storage_error(problem, root) from problem

    def write(self, events: Sequence[Event]) -> None:
        """Returns when they are durable and visible. Raises `StorageFull` and `StorageError`; then none of them is in
        the log."""
        if not events:
            return
        staged: list[Stored] = []
        try:
            rows = to_rows([Batch(self._origin, self._written, len(events), encode_lines(events))])
            with changing(self._root) as manifest:
                staged = stage_segments(self._root, self._source, rows, ())
                manifest.segments.update({segment.name: segment for segment in staged})
            settle(self._root, staged)
        except StorageError:
            discard(self._root, staged)
            raise
        except OSError as problem:
            raise storage_error(problem, self._root) from problem
        self._written += len(events)
