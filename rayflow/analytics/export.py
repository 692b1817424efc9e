"""Answers for other programs: as a stream, or as a file that is there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.analytics import render
from rayflow.errors import StorageError, StorageFull, ValidationError

BINARY = frozenset(("parquet", "arrow"))
SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_TEXT: dict[str, Callable[[pa.Table], Iterator[str]]] = {
    "json": render.json_pieces,
    "jsonl": render.jsonl_pieces,
    "csv": render.csv_pieces,
}


def encoding_of(path: Path) -> str:
    """The encoding that a file's name asks for. Raises `ValidationError`."""
    encoding = SUFFIXES.get(path.suffix.lower())
    if encoding is None:
        known = ", ".join(SUFFIXES)
        raise ValidationError(f"{path}: give --format, or a name that ends with one of {known}", param="out")
    return encoding


def write_stream(answer: pa.Table, encoding: str, stream: BinaryIO) -> None:
    """`encoding`: json, jsonl, csv, parquet or arrow (IPC stream). `stream` need not be seekable."""
    _write(answer, encoding, stream, pa.ipc.new_stream)


def write_file(answer: pa.Table, encoding: str, path: Path) -> None:
    """As `write_stream`, but arrow is the file format (Feather V2). What was at `path` is replaced when all is written.

    Raises `StorageFull` and `StorageError`; then `path` is as it was.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            with beside.open("xb") as file:
                _write(answer, encoding, file, pa.ipc.new_file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        kind = StorageFull if problem.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"{path} cannot be written: {reason}", path=str(path), reason=reason) from problem


def _write(
    answer: pa.Table,
    encoding: str,
    out: BinaryIO,
    ipc: Callable[[BinaryIO, pa.Schema], pa.ipc.RecordBatchStreamWriter],
) -> None:
    if encoding in _TEXT:
        for piece in _TEXT[encoding](answer):
            out.write(piece.encode())
        return
    named = answer.rename_columns(render.distinct(answer.column_names))
    if encoding == "parquet":
        pq.write_table(named, out, compression="zstd", write_page_checksum=True)
    else:
        with ipc(out, named.schema) as writer:
            writer.write_table(named)
