"""Answers as text: JSON, CSV and plain columns. Timestamps are ISO 8601 in UTC everywhere."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator
from decimal import Decimal

import orjson
import pyarrow as pa

_JSON = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


def to_json(table: pa.Table) -> str:
    """One array of objects, an object a line. NaN and infinities are null, which is all JSON has for them."""
    names = _distinct(table.column_names)
    lines = [orjson.dumps(dict(zip(names, row, strict=True)), _default, _JSON).decode() for row in _rows(table)]
    return "[" + ",\n ".join(lines) + "]\n"


def to_csv(table: pa.Table) -> str:
    """RFC 4180 with a header line. NULL is an empty field; lists and structs are JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.column_names)
    writer.writerows([_scalar(value) for value in row] for row in _rows(table))
    return text.getvalue()


def to_text(table: pa.Table) -> str:
    """Aligned columns, numbers to the right."""
    rows = [table.column_names, *cells(table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pads = [str.rjust if right else str.ljust for right in numeric(table)]
    lines = (
        "  ".join(pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(lines) + "\n"


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


def _distinct(names: list[str]) -> list[str]:
    """The names, numbered where one occurs again: an object has a key only once."""
    distinct: list[str] = []
    for name in names:
        free, number = name, 1
        while free in distinct:
            number += 1
            free = f"{name}_{number}"
        distinct.append(free)
    return distinct


def _rows(table: pa.Table) -> Iterator[tuple[object, ...]]:
    """Rows as Python values. Timestamps lose nanoseconds, and their zone: it is UTC and need not be looked up."""
    columns = [
        column.cast(pa.timestamp("us"), safe=False) if pa.types.is_timestamp(column.type) else column
        for column in table.columns
    ]
    return zip(*(column.to_pylist() for column in columns), strict=True)


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
