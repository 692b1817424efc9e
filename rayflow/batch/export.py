"""The results of a job as one file: JSON Lines, CSV or Parquet, a row group in memory at a time.

Parts cover the input range by range and hold their rows in order, so one after the other they are the results in the
order of the input. What a running job has not merged yet is not among them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayflow.batch import parts
from rayflow.batch.directory import JobDirectory
from rayflow.batch.row import Row

Format = Literal["jsonl", "csv", "parquet"]
Only = Literal["all", "ok", "error"]


def export(directory: JobDirectory, form: Format, out: BinaryIO, only: Only = "all") -> int:
    """Write the rows to `out`; their number. Lists are JSON in CSV. Raises `StorageError` for a damaged part."""
    match form:
        case "jsonl":
            return _jsonl(directory, out, only)
        case "csv":
            return _csv(directory, out, only)
        case "parquet":
            return _parquet(directory, out, only)


def rows_of(directory: JobDirectory, only: Only = "all") -> Iterator[Row]:
    """The rows in the order of the input. Raises `StorageError` for a damaged part."""
    for batch in _batches(directory, only):
        for row in batch.to_pylist():
            yield msgspec.convert(row, Row)


def _jsonl(directory: JobDirectory, out: BinaryIO, only: Only) -> int:
    encoder, count = msgspec.json.Encoder(), 0
    for batch in _batches(directory, only):
        out.write(encoder.encode_lines(batch.to_pylist()))
        count += batch.num_rows
    return count


def _csv(directory: JobDirectory, out: BinaryIO, only: Only) -> int:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer, count = csv.writer(text), 0
    writer.writerow(parts.SCHEMA.names)
    for batch in _batches(directory, only):
        for row in batch.to_pylist():
            writer.writerow(
                msgspec.json.encode(value).decode() if isinstance(value, list) else value for value in row.values()
            )
        count += batch.num_rows
    text.detach()
    return count


def _parquet(directory: JobDirectory, out: BinaryIO, only: Only) -> int:
    count = 0
    with pq.ParquetWriter(out, parts.SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for batch in _batches(directory, only):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _batches(directory: JobDirectory, only: Only) -> Iterator[pa.RecordBatch]:
    for part in directory.parts():
        for batch in parts.read(part):
            yield batch if only == "all" else batch.filter(pc.equal(batch.column("status"), only))
