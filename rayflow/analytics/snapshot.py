"""What makes up the log right now.

The manifest says it in one moment: Parquet segments, open segments, cold segments. So whatever is being written,
rolled, merged or moved meanwhile, a snapshot has every event once. Files stay where they are for a while after they
count no more (rayflow.analytics.merging); where one is gone all the same, the manifest is read again.

A file that is not what the manifest says is left out and named; the others answer. Segments of before there was a
manifest (schema version 1) count without being listed, until the event log takes them into it at its next start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.analytics.files import QUARANTINE, SEGMENTS_GLOB
from rayflow.analytics.manifest import Manifest, Stored, open_path, read_manifest
from rayflow.analytics.opened import Batch, read_open
from rayflow.analytics.schema import SCHEMA_VERSION, VERSION_KEY
from rayflow.analytics.segments import REPLACES_KEY, read_rows
from rayflow.analytics.verification import Verifier

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

UNLISTED_VERSION = 1
"""The version of the schema whose segments need no manifest."""
RETRIES = 10
MISSING = "missing"
UNLISTED = "not in the manifest"


@dataclass(frozen=True, slots=True)
class Segment:
    """`version`: of the schema; segments of an older one lack columns."""

    path: Path
    rows: int
    version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`segments`: Parquet files on this machine. With `open_rows` and `cold_rows` they are every row of the log once.
    `unreadable`: left out for the reason given, all of it or what is damaged of it."""

    segments: list[Segment] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    """What the open segments held."""
    cold: dict[str, list[Stored]] = field(default_factory=dict)
    """Cold segments by the URI of their file system."""

    def open_rows(self) -> pa.Table:
        """The rows that are not yet in Parquet, as they were when the snapshot was taken: the columns of `SCHEMA` and
        `date` (date32). Empty where there are none."""
        from rayflow.analytics.convert import to_rows

        rows = to_rows(self.batches)
        return rows.append_column("date", rows["ts"].cast(pa.timestamp("us")).cast(pa.date32(), safe=False))

    def cold_rows(self) -> Dataset | None:
        """The segments on the cold file system, as a dataset with a column `date`, for DuckDB to register: filters and
        columns are pushed down into it, and its pages are checked as they are read. None where there are none."""
        if not self.cold:
            return None
        from rayflow.analytics.cold import ColdStorage, union

        return union([ColdStorage(uri).dataset(segments) for uri, segments in self.cold.items()])


def take_snapshot(root: Path, verify: bool = False) -> Snapshot:
    """What makes up the log in `root`, every file of it checked as `rayflow.analytics.verification` says; with `verify`
    all of them are read from end to end, whatever was found before. Raises `OSError`."""
    verifier = Verifier(root, always=verify)
    for _ in range(RETRIES):
        manifest, problems = read_manifest(root)
        snapshot = _snapshot(root, manifest, dict(problems), verifier)
        if _settled(snapshot) or read_manifest(root)[0].generation == manifest.generation:
            break
        # Rolled, merged or moved since the manifest was read: its rows are elsewhere now.
    verifier.save(manifest.segments)
    return snapshot


def _settled(snapshot: Snapshot) -> bool:
    """Whether nothing looks as if the log had changed meanwhile."""
    return not any(reason.endswith((MISSING, UNLISTED)) for reason in snapshot.unreadable.values())


def _snapshot(root: Path, manifest: Manifest, unreadable: dict[Path, str], verifier: Verifier) -> Snapshot:
    snapshot = Snapshot(unreadable=unreadable)
    unreadable.update({root / QUARANTINE / name: damaged.reason for name, damaged in manifest.damaged.items()})
    for name in manifest.opened:
        _look_at_open(open_path(root, name), snapshot)
    for stored in manifest.segments.values():
        if not stored.cold:
            _look_at(root, stored, snapshot, verifier)
    if any(stored.cold for stored in manifest.segments.values()):
        _look_at_cold(root, manifest, snapshot, verifier)
    _look_at_unlisted(root, manifest, snapshot)
    snapshot.segments.sort(key=lambda segment: segment.path.name)
    return snapshot


def _look_at_open(path: Path, snapshot: Snapshot) -> None:
    try:
        contents = read_open(path)
    except OSError as problem:
        snapshot.unreadable[path] = _reason(problem)
        return
    snapshot.batches.extend(contents.batches)
    if contents.damage:
        snapshot.unreadable[path] = contents.damage


def _look_at(root: Path, stored: Stored, snapshot: Snapshot, verifier: Verifier) -> None:
    path = find_segment(root, stored)
    try:
        damage = verifier.damage(stored, path)
    except OSError as problem:
        damage = _reason(problem)
    if damage:
        snapshot.unreadable[path] = damage
    else:
        snapshot.segments.append(Segment(path, stored.rows, stored.version))


def find_segment(root: Path, stored: Stored) -> Path:
    """Its place, or that in the staging folder until it has one."""
    final = stored.path(root)
    if final.exists():
        return final
    staged = stored.staged(root)
    return staged if staged.exists() else final


def _reason(problem: OSError) -> str:
    return MISSING if isinstance(problem, FileNotFoundError) else problem.strerror or str(problem)


def _look_at_cold(root: Path, manifest: Manifest, snapshot: Snapshot, verifier: Verifier) -> None:
    from rayflow.analytics.cold import ColdStorage, by_place

    for uri, segments in by_place(manifest.segments.values()).items():
        try:
            damaged = ColdStorage(uri).damaged(segments, verifier)
        except (OSError, ValueError) as problem:
            damaged = {segment.name: str(problem) for segment in segments}
        whole = [segment for segment in segments if segment.name not in damaged]
        if whole:
            snapshot.cold[uri] = whole
        for segment in segments:
            if segment.name in damaged:
                snapshot.unreadable[segment.path(root)] = f"on {uri}: {damaged[segment.name]}"


def _look_at_unlisted(root: Path, manifest: Manifest, snapshot: Snapshot) -> None:
    """Segments of the time before the manifest name those whose rows they have instead."""
    found: list[Segment] = []
    replaced: set[str] = set()
    bad: dict[Path, str] = {}
    for path in sorted(root.glob(SEGMENTS_GLOB), key=lambda path: path.name, reverse=True):
        if path.name in replaced or path.name in manifest.segments or path.name in manifest.gone:
            continue
        try:
            version, rows, replaces = read_footer(path)
            if version > UNLISTED_VERSION:
                bad[path] = UNLISTED
                continue
            read_rows(path)
        except (OSError, pa.ArrowException, ValueError) as problem:
            if not isinstance(problem, FileNotFoundError) or path.is_symlink():
                bad[path] = str(problem)
        else:
            found.append(Segment(path, rows, version))
            replaced |= replaces
    snapshot.unreadable.update({path: reason for path, reason in bad.items() if path.name not in replaced})
    snapshot.segments.extend(segment for segment in found if segment.path.name not in replaced)


def read_footer(path: Path) -> tuple[int, int, frozenset[str]]:
    """Version of the schema, number of rows, names of the segments whose rows it has. Raises one of several errors for
    a file that is not a whole segment of a version that this rayflow reads."""
    footer = pq.read_metadata(path)
    facts: dict[bytes, bytes] = footer.metadata or {}
    version = facts.get(VERSION_KEY)
    if version is None:
        raise ValueError("not a segment of an event log")
    if int(version) > SCHEMA_VERSION:
        raise ValueError(f"written with schema version {int(version)}; this rayflow reads version {SCHEMA_VERSION}")
    replaces = msgspec.json.decode(facts.get(REPLACES_KEY, b"[]"), type=frozenset[str])
    return int(version), footer.num_rows, replaces
