"""Shared by the tests of the event log."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from rayflow.analytics.files import SEGMENTS_GLOB
from rayflow.analytics.manifest import COPY, MANIFEST
from rayflow.analytics.schema import VERSION_KEY
from rayflow.analytics.segments import REPLACES_KEY, read_rows

SOURCE = "eventlog/0"
NOON_US = 1_763_726_400_000_000
"""2025-11-21 12:00:00 UTC."""
MOUNTED = [
    "unshare",
    "--mount",
    "--map-root-user",
    "sh",
    "-c",
    'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"',
    "sh",
]
"""In front of a command: a small disk at the folder that comes next, which is gone with the command."""


def files_under(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def damage_column(path: Path, name: str, size: int = 1) -> None:
    """Flip all bits of the last `size` bytes of a column's pages."""
    group = pq.read_metadata(path).row_group(0)
    (column,) = (group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == name)
    end = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
    damaged = bytearray(path.read_bytes())
    damaged[end - size : end] = bytes(byte ^ 0xFF for byte in damaged[end - size : end])
    path.write_bytes(damaged)


def only_segment(root: Path) -> Path:
    (path,) = root.glob(SEGMENTS_GLOB)
    return path


def as_version_1(path: Path, name: str, replaces: list[str]) -> Path:
    """A copy of a segment as an earlier rayflow wrote it: without some columns, and in no manifest."""
    rows = read_rows(path).drop(["node", "cost_usd", "content"])
    metadata = {VERSION_KEY: b"1", REPLACES_KEY: msgspec.json.encode(replaces)}
    old = path.with_name(name)
    pq.write_table(rows.replace_schema_metadata(metadata), old, write_page_checksum=True)
    return old


def forget(root: Path) -> None:
    (root / MANIFEST).unlink()
    (root / COPY).unlink()
