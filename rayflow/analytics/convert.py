"""Events from lines of JSON to columns.

Actors encode an event once, and until here nobody has looked into it. DuckDB's JSON reader makes columns of a hundred
thousand events at a time, in a few microseconds each; as objects in Python they would take three times as long.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from rayflow.analytics.opened import Batch
from rayflow.analytics.schema import SCHEMA
from rayflow.events import Event

PIECE_BYTES = 1 << 22

_BY_ARROW = {pa.string(): "VARCHAR", pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.json_(): "JSON"}


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "BIGINT"
    return _BY_ARROW[kind.value_type if pa.types.is_dictionary(kind) else kind]


_COLUMNS = {
    field.name: (_sql_type(column.type), 0 if field.default == 0 else None)
    for field, column in zip(msgspec.structs.fields(Event), SCHEMA, strict=True)
}
"""Type in SQL and value where the line says nothing, by name of the field."""


def to_rows(batches: Sequence[Batch], threads: int = 0) -> pa.Table:
    """One row per event, in the given order, with the columns of `SCHEMA`. `event_id` is the sender and the number.

    `threads`: of DuckDB; 0 for as many as there are cores. A value that its column cannot take becomes NULL.
    """
    pieces = list(to_pieces(batches, threads))
    return pa.concat_tables(pieces).unify_dictionaries() if pieces else SCHEMA.empty_table()


def to_pieces(batches: Sequence[Batch], threads: int = 0) -> Iterator[pa.Table]:
    """As `to_rows`, in tables of some ten thousand rows, one after the other."""
    for piece in _pieces(batches):
        yield _piece(piece, threads)


def _pieces(batches: Sequence[Batch]) -> Iterator[list[Batch]]:
    """So many at a time that the buffers of DuckDB stay small."""
    piece: list[Batch] = []
    size = 0
    for batch in batches:
        piece.append(batch)
        size += len(batch.lines)
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _piece(batches: Sequence[Batch], threads: int) -> pa.Table:
    with _database(threads).cursor() as database, _as_file(batches) as path:
        try:
            table = database.sql(_statement(path, strict=True)).to_arrow_table()
        except duckdb.Error:
            table = database.sql(_statement(path, strict=False)).to_arrow_table()
    ids = [f"{batch.origin}-{number}" for batch in batches for number in range(batch.first, batch.first + batch.count)]
    columns = [_column(table.column(name), field.type) for name, field in zip(_COLUMNS, SCHEMA, strict=True)]
    columns[SCHEMA.get_field_index("event_id")] = pa.array(ids, pa.string())
    return pa.Table.from_arrays(columns, schema=SCHEMA)


@cache
def _database(threads: int) -> duckdb.DuckDBPyConnection:
    """It keeps nothing; making one takes longer than converting a thousand events."""
    return duckdb.connect(config={"threads": threads} if threads else {})


def _statement(path: str, strict: bool) -> str:
    """With `strict`, one value of the wrong type fails all of it; without, it is read as text first, which is
    slower."""
    listed = ", ".join(f"'{name}': '{kind if strict else 'VARCHAR'}'" for name, (kind, _) in _COLUMNS.items())
    chosen = ", ".join(_expression(name, kind, default, strict) for name, (kind, default) in _COLUMNS.items())
    return f"SELECT {chosen} FROM read_json('{path}', format = 'newline_delimited', columns = {{{listed}}})"


def _expression(name: str, kind: str, default: int | None, strict: bool) -> str:
    value = name if strict or kind in ("VARCHAR", "JSON") else f"TRY_CAST({name} AS {kind})"
    if default is not None or name == "ts_us":
        value = f"coalesce({value}, {default or 0})"
    return f"{value} AS {name}"


def _column(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind):
        return values.dictionary_encode()
    return values.cast(kind)


@contextmanager
def _as_file(batches: Sequence[Batch]) -> Iterator[str]:
    """The lines as a file in memory: DuckDB reads files only."""
    if sys.platform == "linux":
        handle, path = os.memfd_create("events"), ""
        path = f"/proc/self/fd/{handle}"
    else:
        handle, path = tempfile.mkstemp(suffix=".json")
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.writelines(batch.lines for batch in batches)
        yield path
    finally:
        os.close(handle)
        if sys.platform != "linux":
            Path(path).unlink()
