"""Parquet: one record per row, a few hundred rows in memory at a time, only the columns that matter.

A file whose footer cannot be read is refused. A row group that cannot be read gives one fault for each row it declares,
so that the rows after it keep their ordinals. Page checksums are verified where the file has them: without, a flipped
bit passes unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.batch.readers.delimited import missing_columns
from rayflow.batch.readers.records import Entry, Fault, Record
from rayflow.errors import InvalidEncoding, ValidationError

BATCH_ROWS = 256


def read_parquet(path: Path, columns: Sequence[str], keys: Sequence[str]) -> Iterator[Entry]:
    """Rows as dicts of `columns` and `keys`. Raises `ValidationError` where the file is unreadable or has no column of
    `columns`."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except pa.ArrowException as error:
        raise ValidationError(f"{path}: not a readable Parquet file: {error}", param=str(path)) from error
    with file:
        present: list[str] = file.schema_arrow.names
        if not set(columns) & set(present):
            raise ValidationError(missing_columns(path, columns, present), param="field")
        wanted = [name for name in present if name in {*columns, *keys}]
        for group in range(file.num_row_groups):
            yield from _group(file, group, wanted)


def _group(file: pq.ParquetFile, group: int, wanted: list[str]) -> Iterator[Entry]:
    rows: int = file.metadata.row_group(group).num_rows
    done = 0
    try:
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted):
            for entry in _entries(batch):
                done += 1
                yield entry
    # Arrow reports a page that fails its checksum or does not decompress as a plain OSError.
    except (pa.ArrowException, OSError) as error:
        for _ in range(done, rows):
            yield Fault.of(ValidationError, f"row group {group} of the Parquet file cannot be read: {error}")


def _entries(batch: pa.RecordBatch) -> Iterator[Entry]:
    for index in range(batch.num_rows):
        try:
            [value] = batch.slice(index, 1).to_pylist()
        except UnicodeDecodeError as error:
            yield Fault.of(InvalidEncoding, f"the row is not UTF-8: {error.reason}")
        else:
            yield Record(value)
