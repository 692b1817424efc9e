"""Shared by the tests of the event log."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

SOURCE = "eventlog/0"
NOON_US = 1_763_726_400_000_000
"""2025-11-21 12:00:00 UTC."""


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
