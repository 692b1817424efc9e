"""Merging: many small segments of a day become a few large ones.

A log that is flushed every second would have 86,400 files a day. Segments are merged by size: sixteen with the same
number of hexadecimal digits in their row count become one with about one digit more, so a row is rewritten a handful of
times and a day holds a few dozen segments (O'Neil et al., "The log-structured merge-tree", Acta Informatica 33, 1996).

What was replaced is deleted after a grace period, for the readers that had listed it. Until then the merged segment is
not merged again: so what a segment replaces never replaces anything itself, and readers need not look further.
"""

from __future__ import annotations

import fcntl
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pyarrow as pa

from rayflow.analytics.segments import Publication, staging_folder, storage_error
from rayflow.analytics.snapshot import Segment, Snapshot, read_rows, take_snapshot

FAN_IN = 16
"""So many segments of one size class are merged at a time, or more."""
SMALL_ROWS = 1 << 14
"""A segment with fewer rows is small."""
MERGED_ROWS = 1 << 17
"""A merge stops taking in segments here, which bounds its memory to some 50 MB."""
GRACE_S = 300.0
"""A query must open its files within so many seconds of listing them."""


@dataclass(slots=True)
class Merged:
    """What a merge did: number of small segments merged, of old ones deleted, and files that turned out damaged."""

    merged: int = 0
    deleted: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)


def merge_small(root: Path, source: str, grace_s: float = GRACE_S) -> Merged:
    """Merge small segments of each day, and delete those that were replaced more than `grace_s` ago.

    Safe beside writers and readers. Only one merge runs at a time: another one returns at once, having done nothing.
    Damaged segments (their page checksums do not match) stay as they are. Raises `StorageFull` and `StorageError`.
    """
    done = Merged()
    try:
        with _merge_lock(staging_folder(root, source).parent) as mine:
            if mine:
                snapshot = take_snapshot(root)
                done.deleted = _delete_replaced(snapshot, before_s=time.time() - grace_s)
                for day, group in _mergeable(snapshot):
                    done.merged += _merge(root, source, day, group, done.damaged)
    except OSError as problem:
        raise storage_error(problem, root) from problem
    return done


@contextmanager
def _merge_lock(folder: Path) -> Iterator[bool]:
    """Whether this is the only merge of the log. Two at once would each replace the same segments: rows seen twice."""
    with (folder / "merge.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _delete_replaced(snapshot: Snapshot, before_s: float) -> int:
    on_disk = {path.name: path for path in snapshot.replaced}
    expired = [
        on_disk[name]
        for segment in snapshot.segments
        if segment.replaces and segment.path.stat().st_mtime <= before_s
        for name in segment.replaces & on_disk.keys()
    ]
    for path in expired:
        path.unlink()
    return len(expired)


def _mergeable(snapshot: Snapshot) -> Iterator[tuple[date, list[Segment]]]:
    """Groups of enough segments of one day and one size class, oldest first."""
    on_disk = {path.name for path in snapshot.replaced}
    classes: defaultdict[tuple[Path, int], list[Segment]] = defaultdict(list)
    for segment in snapshot.segments:
        if segment.rows < SMALL_ROWS and segment.replaces.isdisjoint(on_disk):
            classes[segment.path.parent, len(f"{segment.rows:x}")].append(segment)
    for (folder, _), segments in sorted(classes.items()):
        if len(segments) >= FAN_IN:
            yield date.fromisoformat(folder.name.removeprefix("date=")), segments


def _merge(root: Path, source: str, day: date, group: list[Segment], damaged: dict[Path, str]) -> int:
    tables: list[pa.Table] = []
    names: list[str] = []
    rows = 0
    for segment in group:
        if rows >= MERGED_ROWS:
            break
        try:
            # A flipped bit must stay where it can be found; copied, it would get a checksum of its own.
            table = read_rows(segment.path)
        except (OSError, pa.ArrowException) as problem:
            damaged[segment.path] = str(problem)
            continue
        tables.append(table)
        names.append(segment.path.name)
        rows += segment.rows
    if len(tables) < 2:
        return 0
    with Publication(root, source) as publication:
        publication.add(day, pa.concat_tables(tables).unify_dictionaries().sort_by("ts"), replaces=names)
        publication.commit()
    return len(tables)
