"""Dataset files as a stream of entries: JSON Lines, JSON, CSV and Parquet, told apart by the name of the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rayflow.batch.readers.delimited import read_csv
from rayflow.batch.readers.document import read_document
from rayflow.batch.readers.jsonl import read_jsonl
from rayflow.batch.readers.records import Blank, Entry, Fault, Record
from rayflow.errors import ValidationError

__all__ = ["SUFFIXES", "Blank", "Entry", "Fault", "Record", "read_entries"]

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


def read_entries(path: Path, columns: Sequence[str], keys: Sequence[str]) -> Iterator[Entry]:
    """Each line or row of the file, in order. `columns` may hold the input, `keys` the id.

    All but JSON documents are read as a stream. Raises `ValidationError` where the file cannot be read at all, or its
    table has none of `columns`.
    """
    try:
        yield from _reader(path, columns, keys)
    except OSError as error:
        raise ValidationError(f"{path}: cannot be read: {error.strerror or error}", param=str(path)) from error


def _reader(path: Path, columns: Sequence[str], keys: Sequence[str]) -> Iterator[Entry]:
    name = path.name.lower()
    match Path(name.removesuffix(".gz")).suffix:
        case ".jsonl" | ".ndjson":
            return read_jsonl(path)
        case ".json":
            return read_document(path)
        case ".csv":
            return read_csv(path, columns)
        case ".parquet" if not name.endswith(".gz"):
            # Arrow takes 50 ms to import; only this format needs it.
            from rayflow.batch.readers.parquet import read_parquet

            return read_parquet(path, columns, keys)
    known = ", ".join(SUFFIXES)
    raise ValidationError(
        f"{path}: unknown kind of file; expected {known} (all but .parquet also as .gz)", param=str(path)
    )
