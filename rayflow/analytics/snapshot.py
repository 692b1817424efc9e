"""Which segments make up the log right now.

A merged segment names those it replaces, and a reader leaves these out. So there is no moment in which a row is seen
twice or not at all: until the merged segment is renamed into place the reader sees the old ones, from then on the new
one, and the old ones stay on disk a while for readers that had listed them already (rayflow.analytics.merging).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.analytics.schema import SCHEMA_VERSION, VERSION_KEY
from rayflow.analytics.segments import REPLACES_KEY, SEGMENTS_GLOB


@dataclass(frozen=True, slots=True)
class Segment:
    path: Path
    rows: int
    replaces: frozenset[str] = frozenset()
    """Names of the segments whose rows are in this one."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`segments`: together, every row of the log once. `replaced`: left out, their rows are in a merged segment.
    `unreadable`: left out for the reason given; their rows are missing from the log."""

    segments: list[Segment] = field(default_factory=list)
    replaced: list[Path] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)


def take_snapshot(root: Path, verify: bool = False) -> Snapshot:
    """List the segments under `root` and read their footers; with `verify` also all pages, against their checksums.

    A footer tells a torn file, only the checksums tell a flipped bit: DuckDB does not look at them.
    """
    while True:
        try:
            return _snapshot(root, verify)
        except FileNotFoundError:
            continue  # a merge removed it after it was listed: its rows have moved, so list again


def _snapshot(root: Path, verify: bool) -> Snapshot:
    found: list[Segment] = []
    gone: set[str] = set()
    unreadable: dict[Path, str] = {}
    paths = sorted(root.glob(SEGMENTS_GLOB), key=lambda path: path.name, reverse=True)
    for path in paths:  # newest first: a merged segment comes before what it replaces, which then need not be opened
        if path.name in gone:
            continue
        try:
            segment = _read_footer(path)
            if verify:
                read_rows(path)
        except (OSError, pa.ArrowException, ValueError) as problem:
            if isinstance(problem, FileNotFoundError) and not path.is_symlink():
                raise
            unreadable[path] = str(problem)
        else:
            found.append(segment)
            gone |= segment.replaces
    return Snapshot(
        segments=[segment for segment in reversed(found) if segment.path.name not in gone],
        replaced=[path for path in paths if path.name in gone],
        unreadable={path: reason for path, reason in unreadable.items() if path.name not in gone},
    )


def read_rows(path: Path) -> pa.Table:
    """All rows of a segment. Raises `OSError` or `ArrowException` where a page does not match its checksum."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read()


def _read_footer(path: Path) -> Segment:
    """Raises one of several errors for a file that is not a whole segment of this version."""
    footer = pq.read_metadata(path)
    facts: dict[bytes, bytes] = footer.metadata or {}
    version = facts.get(VERSION_KEY)
    if version is None:
        raise ValueError("not a segment of an event log")
    if version != str(SCHEMA_VERSION).encode():
        raise ValueError(f"written with schema version {version.decode()}; this rayflow reads version {SCHEMA_VERSION}")
    replaces = msgspec.json.decode(facts.get(REPLACES_KEY, b"[]"), type=frozenset[str])
    return Segment(path, footer.num_rows, replaces)
