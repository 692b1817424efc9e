"""The end of a job: all rows in the order of the input, as JSON Lines and as Parquet.

Both are made from the journal in one pass, one row group in memory at a time, and appear whole or not at all.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.batch.durable import replacing
from rayflow.batch.folder import JobFolder
from rayflow.batch.journal import Journal
from rayflow.batch.row import Row

ROW_GROUP_ROWS = 1024
ROW_GROUP_BYTES = 64 * 2**20

SCHEMA = pa.schema(
    [
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("line", pa.int64()),
        pa.field("byte", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("turns", pa.list_(pa.string())),
        pa.field("answers", pa.list_(pa.string())),
        pa.field("session_id", pa.string()),
        pa.field("run_ids", pa.list_(pa.string())),
        pa.field("agents", pa.list_(pa.list_(pa.string()))),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("duration_ms", pa.float64()),
        pa.field("attempts", pa.int32()),
    ]
)


class Totals:
    """Sums over the rows of a result."""

    def __init__(self) -> None:
        self.items = 0
        self.turns = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.errors: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        self.items += 1
        self.turns += len(row.answers)
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens
        if row.error is not None:
            self.errors[row.error] += 1


def write_results(folder: JobFolder, journal: Journal) -> Totals:
    """Write `results.jsonl` and `results.parquet`. Raises `StorageFull` or `StorageError`; old ones are kept then."""
    totals = Totals()
    decoder = msgspec.json.Decoder(Row)
    with (
        replacing(folder.results_jsonl) as jsonl_path,
        replacing(folder.results_parquet) as parquet_path,
        jsonl_path.open("wb") as jsonl,
        pq.ParquetWriter(parquet_path, SCHEMA, compression="zstd", write_page_checksum=True) as parquet,
    ):
        rows: list[Row] = []
        size = 0
        for line in journal.lines():
            jsonl.write(line)
            rows.append(row := decoder.decode(line))
            totals.add(row)
            size += len(line)
            if len(rows) == ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                parquet.write_batch(_batch(rows))
                rows.clear()
                size = 0
        if rows:
            parquet.write_batch(_batch(rows))
    return totals


def _batch(rows: list[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([msgspec.structs.asdict(row) for row in rows], schema=SCHEMA)
