"""Parts of the results: a Parquet file for each range of the input, always whole.

The rows of a part lie in the order of the input. A part and the rows that were finished since are merged one row group
at a time into a new file that takes the part's place in one rename: whoever reads the folder sees each row once, before
and after. A row in the journal goes before one of the same ordinal in the part, so that merging twice is merging once,
and a crash between the rename and the end of the journal costs nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from rayflow.app.durable import replacing, storage_errors
from rayflow.batch.status import Totals
from rayflow.errors import StorageError

ROW_GROUP_ROWS = 1024
ROW_GROUP_BYTES = 32 * 2**20
TOTALS_KEY = b"rayflow.totals"

SCHEMA = pa.schema(
    [
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("source", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("byte", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("turns", pa.list_(pa.string())),
        pa.field("answers", pa.list_(pa.string())),
        pa.field("label", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("finish_reason", pa.string()),
        pa.field("model", pa.string()),
        pa.field("tool_calls", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("run_ids", pa.list_(pa.string())),
        pa.field("agents", pa.list_(pa.list_(pa.string()))),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("cost_usd", pa.float64()),
        pa.field("duration_ms", pa.float64()),
        pa.field("attempts", pa.int64()),
    ]
)


def merge(part: Path, journal: Path) -> Totals:
    """Make the rows of `journal` part of `part`, which need not exist, and delete the journal. Returns what the part
    holds then.

    Raises `StorageFull` or `StorageError`; then all is as it was.
    """
    totals = Totals()
    lines = _Lines(journal)
    if not lines.ordinals and part.exists():
        totals = totals_of(part)
    elif lines.ordinals:
        with (
            replacing(part) as path,
            pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True) as to,
        ):
            for table in _merged(part, lines):
                to.write_table(table)
                totals.add(_totals(table))
            to.add_key_value_metadata({TOTALS_KEY: msgspec.json.encode(totals)})
    with storage_errors(journal):
        journal.unlink(missing_ok=True)
    return totals


def totals_of(part: Path) -> Totals:
    """What a part holds, from its footer. Raises `StorageError`."""
    try:
        with pq.ParquetFile(part) as file:
            return msgspec.json.decode(file.metadata.metadata[TOTALS_KEY], type=Totals)
    except (pa.ArrowException, KeyError, TypeError, msgspec.DecodeError, OSError) as error:
        raise _damaged(part, error) from error


def read(part: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a part, at most a row group at a time. Raises `StorageError`."""
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                yield from file.read_row_group(number, columns=columns).to_batches()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(part, error) from error


class _Lines:
    """The rows of a journal by ordinal; of several for one ordinal the last. A torn last line is none."""

    def __init__(self, path: Path) -> None:
        self._map: mmap.mmap | bytes = b""
        self._places: dict[int, tuple[int, int]] = {}
        with storage_errors(path):
            try:
                with path.open("rb") as file:
                    if file.seek(0, 2):
                        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except FileNotFoundError:
                pass
        self._index(path)
        self.ordinals = sorted(self._places)

    def _index(self, path: Path) -> None:
        decoder = msgspec.json.Decoder(_Ordinal)
        begin = 0
        while (end := self._map.find(b"\n", begin)) >= 0:
            try:
                ordinal = decoder.decode(memoryview(self._map)[begin:end]).ordinal
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"{path}: the line at byte {begin} is damaged ({error}); delete that line, and its row is run again"
                ) from error
            self._places[ordinal] = begin, end
            begin = end + 1

    def tables(self, ordinals: list[int]) -> Iterator[pa.Table]:
        """The rows of these ordinals, at most a row group at a time."""
        chunk: list[bytes] = []
        size = 0
        for ordinal in ordinals:
            begin, end = self._places[ordinal]
            if chunk and (len(chunk) == ROW_GROUP_ROWS or size + end - begin > ROW_GROUP_BYTES):
                yield _parsed(chunk)
                chunk, size = [], 0
            chunk.append(self._map[begin:end])
            size += end - begin
        if chunk:
            yield _parsed(chunk)


class _Ordinal(msgspec.Struct):
    ordinal: int


def _merged(part: Path, lines: _Lines) -> Iterator[pa.Table]:
    left = lines.ordinals
    if part.exists():
        replaced = pa.array(lines.ordinals, pa.int64())
        for batch in read(part):
            last = batch.column("ordinal")[-1].as_py()
            until = next((place for place, ordinal in enumerate(left) if ordinal > last), len(left))
            kept = pa.Table.from_batches([batch]).filter(pc.invert(pc.is_in(batch.column("ordinal"), replaced)))
            fresh = list(lines.tables(left[:until]))
            left = left[until:]
            if fresh or kept.num_rows:
                yield pa.concat_tables([kept.cast(SCHEMA), *fresh]).sort_by("ordinal")
    yield from lines.tables(left)


def _parsed(lines: list[bytes]) -> pa.Table:
    """Rows as a table; Arrow reads the JSON itself, without holding up other threads."""
    data = b"\n".join(lines)
    return pj.read_json(
        BytesIO(data),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=pj.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore"),
    ).cast(SCHEMA)


def _totals(table: pa.Table) -> Totals:
    failed = pc.equal(table.column("status"), "error")
    slugs = table.column("error").filter(failed).value_counts().to_pylist()
    number = int(pc.sum(failed).as_py() or 0)
    return Totals(
        rows=table.num_rows,
        ok=table.num_rows - number,
        failed=number,
        turns=_sum(pc.list_value_length(table.column("answers"))),
        prompt_tokens=_sum(table.column("prompt_tokens")),
        completion_tokens=_sum(table.column("completion_tokens")),
        cost_usd=float(pc.sum(table.column("cost_usd")).as_py() or 0.0),
        errors={entry["values"]: entry["counts"] for entry in slugs},
    )


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)


def _damaged(part: Path, error: Exception) -> StorageError:
    return StorageError(f"{part} is damaged ({error}); delete it, and its rows are run again")
