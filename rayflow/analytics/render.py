"""Answers as text: JSON, CSV and columns for the eye. Timestamps are ISO 8601 in UTC everywhere.

What stands in a log was said by anybody: where a person looks, nothing of it steers the terminal.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import orjson
import pyarrow as pa
from rich.cells import cell_len, set_cell_size

_JSON = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
_PIECE_ROWS = 10_000
_GAP = "  "
_NARROWEST = 4
"""Columns of a table that does not fit are not made narrower than this."""


class Fitted(NamedTuple):
    """A table as text. `cut`: how many cells are shown in part, because the whole was wider than asked for."""

    text: str
    cut: int


def json_pieces(table: pa.Table) -> Iterator[str]:
    """One array of objects, an object a line. NaN and infinities are null, which is all JSON has for them."""
    between = "["
    for line in _objects(table):
        yield between + line
        between = ",\n "
    yield "]\n" if between != "[" else "[]\n"


def to_json(table: pa.Table) -> str:
    return "".join(json_pieces(table))


def jsonl_pieces(table: pa.Table) -> Iterator[str]:
    """An object a line, as `json_pieces` has them, and nothing else."""
    for line in _objects(table):
        yield line + "\n"


def csv_pieces(table: pa.Table) -> Iterator[str]:
    """RFC 4180 with a header line. NULL is an empty field; lists and structs are JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.column_names)
    for row in _rows(table):
        writer.writerow(map(_scalar, row))
        if text.tell() > 1 << 16:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def to_text(table: pa.Table, width: int | None = None) -> Fitted:
    """Aligned columns, numbers to the right, every row on one line.

    `width`: columns of the terminal. Where the table is wider, the widest columns are cut, and where that is not
    enough, each row is shown as lines of `name  value`.
    """
    rows = [[_printable(name) for name in table.column_names], *cells(table)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        widths = _fit(widths, width - len(_GAP) * (len(widths) - 1))
        if len(widths) * _NARROWEST > width:
            return _upright(rows, width)
    to_right = numeric(table)
    cut = 0
    lines = []
    for row in rows:
        cut += sum(cell_len(cell) > room for cell, room in zip(row, widths, strict=True))
        lines.append(_GAP.join(map(_sized, row, widths, to_right)).rstrip())
    return Fitted("\n".join(lines) + "\n", cut)


def cells(table: pa.Table) -> Iterator[list[str]]:
    """Rows for the eye: every cell on one line, and nothing in it that could steer a terminal."""
    for row in _rows(table):
        yield [_printable(_scalar(value)) for value in row]


def numeric(table: pa.Table) -> list[bool]:
    """Which columns hold numbers."""
    return [
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        for kind in table.schema.types
    ]


def distinct(names: list[str]) -> list[str]:
    """The names, numbered where one occurs again: objects and files have a key only once."""
    seen: list[str] = []
    for name in names:
        free, number = name, 1
        while free in seen:
            number += 1
            free = f"{name}_{number}"
        seen.append(free)
    return seen


def _fit(widths: list[int], room: int) -> list[int]:
    """The widest columns become narrower, all to the same width, until the sum fits."""
    if sum(widths) <= room:
        return widths
    most = max(widths)
    while most > _NARROWEST and sum(min(width, most) for width in widths) > room:
        most -= 1
    fitted = [min(width, most) for width in widths]
    for i, width in enumerate(widths):  # what is left over goes to the first that can use it
        fitted[i] += min(width - fitted[i], max(room - sum(fitted), 0))
    return fitted


def _upright(rows: list[list[str]], width: int) -> Fitted:
    names, *answers = rows
    left = max(map(cell_len, names))
    room = max(width - left - len(_GAP), _NARROWEST)
    cut = sum(cell_len(cell) > room for row in answers for cell in row)
    lines = [
        [_sized(name, left, False) + _GAP + _sized(cell, min(room, cell_len(cell)), False) for name, cell in pairs]
        for pairs in (zip(names, row, strict=True) for row in answers)
    ]
    return Fitted("\n".join("\n".join(block) + "\n" for block in lines), cut)


def _sized(cell: str, width: int, to_right: bool) -> str:
    length = cell_len(cell)
    if length > width:
        return set_cell_size(cell, width - 1) + "…"
    return " " * (width - length) + cell if to_right else cell + " " * (width - length)


def _objects(table: pa.Table) -> Iterator[str]:
    names = distinct(table.column_names)
    for row in _rows(table):
        yield orjson.dumps(dict(zip(names, row, strict=True)), _default, _JSON).decode()


def _rows(table: pa.Table) -> Iterator[tuple[object, ...]]:
    """Rows as Python values. Timestamps lose nanoseconds, and their zone: it is UTC and need not be looked up."""
    columns = [
        column.cast(pa.timestamp("us"), safe=False) if pa.types.is_timestamp(column.type) else column
        for column in table.columns
    ]
    for at in range(0, table.num_rows, _PIECE_ROWS):
        yield from zip(*(column.slice(at, _PIECE_ROWS).to_pylist() for column in columns), strict=True)


def _scalar(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str | float):
        return str(value)
    text = orjson.dumps(value, _default, _JSON).decode()
    return text[1:-1] if text.startswith('"') else text


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _default(value: object) -> object:
    """What orjson does not know: sums of integers are decimals, blobs are bytes, the rest is intervals."""
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value() and abs(value) < 2**63
        return int(value) if whole else float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
