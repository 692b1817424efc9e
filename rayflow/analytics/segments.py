"""Segments: the Parquet files of the log, `date=YYYY-MM-DD/<time>-<source>-<random>.parquet`.

A segment is written once and never changed. It is written under the staging folder, made durable, and only then renamed
to where readers look, so a reader sees all of it or nothing, whatever happens to the writer. Pages carry checksums.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.analytics.schema import SCHEMA, to_table
from rayflow.errors import StorageError, StorageFull
from rayflow.events import Event

SEGMENTS_GLOB = "date=*/*.parquet"
REPLACES_KEY = b"rayflow.replaces"
STAGING = ".staging"

_EPOCH = date(1970, 1, 1)
_DAY_US = 86_400_000_000
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


class SegmentWriter:
    """Writes batches of events as segments (the runtime's `EventWriter`). At most one lives per `root` and `source`.

    Raises `StorageFull` and `StorageError`, here and in `write`.
    """

    def __init__(self, root: Path, source: str) -> None:
        self._root = root
        self._source = source
        try:
            staging = staging_folder(root, source)
            for leftover in staging.iterdir():
                leftover.unlink()
        except OSError as problem:
            raise storage_error(problem, root) from problem

    def write(self, events: list[Event]) -> None:
        """Write one segment per day (UTC) of the events. Returns when they are durable and visible to readers.

        When it raises, nothing of the batch is in the log and the call may be repeated.
        """
        in_order = sorted(events, key=attrgetter("ts_us"))
        with Publication(self._root, self._source) as publication:
            for day, rows in groupby(in_order, key=lambda event: event.ts_us // _DAY_US):
                publication.add(_EPOCH + timedelta(days=day), to_table(list(rows)))
            publication.commit()

    def close(self) -> None:
        """Nothing is held open or buffered between writes."""


class Publication:
    """Segments on their way into the log: `add` makes each durable out of sight, `commit` makes all of them visible.

    As a context it removes what was not committed, and turns `OSError` into `StorageError` or `StorageFull`.
    """

    def __init__(self, root: Path, source: str) -> None:
        self._root = root
        self._source = source
        self._staged: list[tuple[Path, Path]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for path in chain.from_iterable(self._staged):
            with suppress(OSError):  # what cannot be removed from staging now is removed at the next start
                path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise storage_error(error, self._root) from error

    def add(self, day: date, rows: pa.Table, replaces: Sequence[str] = ()) -> None:
        """Stage one segment. `rows`: of that day, sorted by `ts`. `replaces`: the segments whose rows these are."""
        name = _new_name(self._source)
        staged = staging_folder(self._root, self._source) / f"{name}.tmp"
        self._staged.append((staged, self._root / f"date={day.isoformat()}" / name))
        metadata = {**SCHEMA.metadata, REPLACES_KEY: msgspec.json.encode(replaces)} if replaces else SCHEMA.metadata
        with staged.open("xb") as file:
            pq.write_table(rows.replace_schema_metadata(metadata), file, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Rename the staged segments to where readers look."""
        for folder in {final.parent for _, final in self._staged}:
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                _sync_folder(self._root)
        for staged, final in self._staged:
            staged.rename(final)
        for folder in {final.parent for _, final in self._staged}:
            _sync_folder(folder)
        self._staged.clear()


def staging_folder(root: Path, source: str) -> Path:
    """Where `source` writes what is not yet to be seen; made where it is missing."""
    folder = root / STAGING / _slug(source)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def storage_error(problem: OSError, root: Path) -> StorageError:
    if problem.errno in _FULL:
        return StorageFull(
            f"no space left for the event log in {root}; free some or set storage.events", path=str(root)
        )
    reason = problem.strerror or str(problem)
    return StorageError(f"the event log in {root} cannot be written: {reason}", path=str(root), reason=reason)


def _new_name(source: str) -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{_slug(source)}-{secrets.token_hex(8)}.parquet"


def _slug(source: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-") or "log"


def _sync_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
