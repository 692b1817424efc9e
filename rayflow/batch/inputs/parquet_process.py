"""The process that decodes Parquet for `parquet`: it may fall, and take no more memory than it was given.

python -m rayflow.batch.inputs.parquet_process PARENT_PID
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.app.children import end_with_parent
from rayflow.batch.inputs.delimited import check_columns
from rayflow.batch.inputs.parquet import Said, Task
from rayflow.batch.inputs.places import Place
from rayflow.batch.inputs.records import size
from rayflow.errors import BodyTooLarge, InvalidEncoding, ValidationError

BATCH_ROWS = 128

_encode = msgspec.msgpack.Encoder(enc_hook=str).encode


def main() -> None:
    end_with_parent(int(sys.argv[1]))
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
    _limit_memory(task.bounds.memory_bytes)
    for said in _read(task):
        _say(sys.stdout.buffer, said)


def _limit_memory(extra_bytes: int) -> None:
    """What this process may map from now on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _say(pipe: IO[bytes], said: Said) -> None:
    data = _encode(said)
    pipe.write(len(data).to_bytes(4, "big"))
    pipe.write(data)
    pipe.flush()


def _read(task: Task) -> Iterator[Said]:
    try:
        with (
            Place(task.path, "").raw() as raw,
            pq.ParquetFile(raw, page_checksum_verification=True, pre_buffer=False) as file,
        ):
            columns = _columns(file, task)
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            if sum(groups) > task.bounds.rows:
                raise BodyTooLarge(f"{sum(groups)} rows; at most {task.bounds.rows} are read")
            yield Said("opened", groups=groups)
            for group in range(task.group, len(groups)):
                yield from _group(file, group, groups[group], columns, task.bounds.row_bytes)
            yield Said("end")
    except ValidationError as error:
        yield Said("refused", slug=error.slug, why=error.message)
    except OSError as error:  # Arrow's are, too
        yield Said("refused", slug=ValidationError.slug, why=f"not a readable Parquet file: {error}")
    except (pa.ArrowException, MemoryError) as error:
        yield Said("refused", slug=ValidationError.slug, why=f"not a readable Parquet file: {error}")


def _columns(file: pq.ParquetFile, task: Task) -> list[str]:
    present: list[str] = file.schema_arrow.names
    try:
        check_columns(task.path, task.wanted, present, task.bounds)
    except ValidationError as error:
        raise type(error)(error.message.removeprefix(f"{task.path}: ")) from None
    return [name for name in present if name in task.columns] if task.columns else present


def _group(file: pq.ParquetFile, group: int, rows: int, columns: list[str], row_bytes: int) -> Iterator[Said]:
    done = 0
    why = "it holds fewer rows than it declares"
    try:
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
            yield _rows(batch, group, row_bytes)
            done += batch.num_rows
    # Arrow reports a page that fails its checksum or does not decompress as a plain OSError.
    except (pa.ArrowException, OSError, MemoryError) as error:
        why = str(error) or type(error).__name__
    if done < rows:
        yield Said("unread", group=group, why=why)


def _rows(batch: pa.RecordBatch, group: int, row_bytes: int) -> Said:
    rows: list[object] = []
    faults: list[tuple[int, str, str]] = []
    for index in range(batch.num_rows):
        value: object = None
        try:
            [value] = batch.slice(index, 1).to_pylist()
        except UnicodeDecodeError as error:
            faults.append((index, InvalidEncoding.slug, f"the row is not UTF-8: {error.reason}"))
        else:
            data = _encode(value)
            if len(data) > row_bytes:
                faults.append((index, BodyTooLarge.slug, f"the row is longer than {size(row_bytes)}"))
                value = None
            else:
                value = msgspec.Raw(data)
        rows.append(value)
    return Said("rows", group=group, rows=rows, faults=faults)


if __name__ == "__main__":
    main()
