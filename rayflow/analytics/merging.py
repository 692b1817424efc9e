"""Merging: many small segments of a day become a few large ones.

Segments are merged by size: sixteen with the same number of hexadecimal digits in their row count become one with about
one digit more, so a row is rewritten a handful of times and a day holds a few dozen segments (O'Neil et al., "The
log-structured merge-tree", Acta Informatica 33, 1996).

What was replaced is deleted after a grace period, for the readers that had listed it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from rayflow.analytics.files import storage_error
from rayflow.analytics.manifest import Manifest, Stored, changing, read_manifest
from rayflow.analytics.schema import SCHEMA
from rayflow.analytics.segments import discard, read_rows, settle, stage_segments
from rayflow.analytics.snapshot import find_segment
from rayflow.analytics.verification import Verifier
from rayflow.errors import StorageError

FAN_IN = 16
"""So many segments of one size class are merged at a time, or more."""
SMALL_ROWS = 1 << 16
"""A segment with fewer rows is small."""
MERGED_ROWS = 1 << 17
"""A merge stops taking in segments here, which bounds its memory to some 100 MB."""


@dataclass(slots=True)
class Merged:
    """What a merge did: number of small segments merged, and files that turned out damaged."""

    merged: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)


def merge_small(root: Path, source: str) -> Merged:
    """Merge small segments of each day. Safe beside writers, readers and other merges.

    Damaged segments stay as they are: copied, a flipped bit would get a checksum of its own. Raises `StorageFull` and
    `StorageError`.
    """
    done = Merged()
    try:
        for group in _mergeable(read_manifest(root)[0]):
            _merge(root, source, group, done)
    except OSError as problem:
        raise storage_error(problem, root) from problem
    return done


def _mergeable(manifest: Manifest) -> Iterator[list[Stored]]:
    """Groups of enough segments of one day and one size class, oldest first."""
    classes: defaultdict[tuple[str, int], list[Stored]] = defaultdict(list)
    for segment in sorted(manifest.segments.values(), key=lambda segment: segment.name):
        if segment.rows < SMALL_ROWS and not segment.cold:
            classes[segment.day, len(f"{segment.rows:x}")].append(segment)
    for _, segments in sorted(classes.items()):
        if len(segments) >= FAN_IN:
            yield segments


def _merge(root: Path, source: str, group: list[Stored], done: Merged) -> None:
    verifier = Verifier(root)
    tables: list[pa.Table] = []
    names: list[str] = []
    rows = 0
    for segment in group:
        if rows >= MERGED_ROWS:
            break
        path = find_segment(root, segment)
        try:
            if damage := verifier.damage(segment, path):
                raise pa.ArrowInvalid(damage)
            tables.append(_current(read_rows(path)))
        except FileNotFoundError:
            continue  # another merge had it
        except (OSError, pa.ArrowException) as problem:
            done.damaged[path] = str(problem)
            continue
        names.append(segment.name)
        rows += segment.rows
    if len(tables) < 2:
        return
    staged = stage_segments(root, source, pa.concat_tables(tables).unify_dictionaries(), names)
    try:
        with changing(root) as manifest:
            if not manifest.segments.keys() >= set(names):
                discard(root, staged)
                return
            now_s = time.time()
            for name in names:
                manifest.remove(name, now_s)
            manifest.segments.update({segment.name: segment for segment in staged})
    except StorageError:
        discard(root, staged)
        raise
    settle(root, staged)
    done.merged += len(names)


def _current(rows: pa.Table) -> pa.Table:
    """With the columns of now: older segments lack some."""
    columns = [
        rows[field.name].cast(field.type) if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)
