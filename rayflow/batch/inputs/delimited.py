"""CSV and TSV: a header, then one record per row; a row may span lines inside quotes.

Rows that break the rules of quoting, hold bytes that are not UTF-8 or do not fit the header are faults; reading goes on
with the next line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.lines import BrokenStream, LineReader
from rayflow.batch.inputs.places import Place
from rayflow.batch.inputs.records import Blank, Entry, Fault, Record, size
from rayflow.errors import BodyTooLarge, InvalidEncoding, ValidationError


def read_delimited(place: Place, columns: Sequence[str], bounds: Bounds, delimiter: str) -> Iterator[Entry]:
    """Rows as dicts of text. Raises `ValidationError` where the header has none of `columns`."""
    # The limit is global in the csv module and its default (128 KiB) is below what prompts reach.
    csv.field_size_limit(max(csv.field_size_limit(), bounds.row_bytes))
    with place.text() as file:
        lines = _Text(LineReader(file, bounds.row_bytes), bounds.row_bytes)
        rows = csv.reader(lines, strict=True, delimiter=delimiter)
        try:
            header = _header(place.path, rows, columns, bounds)
            if header is None:
                return
            while True:
                position = lines.begin()
                try:
                    cells = next(rows)
                except StopIteration:
                    return
                except _TooLong:
                    yield Fault.too_long("the row", bounds.row_bytes, *position)
                    rows = csv.reader(lines, strict=True, delimiter=delimiter)
                except csv.Error as error:
                    yield Fault.of(ValidationError, f"the row is not CSV: {error}", *position)
                else:
                    yield _entry(header, cells, *position)
        except BrokenStream as error:
            broken = error.or_unreadable(place.path)
            yield Fault.of(ValidationError, str(broken), broken.line, broken.byte)


class _TooLong(Exception):
    """The row, with all its lines, is longer than rows may be."""


class _Text:
    """Decodes lines for the csv module; bytes that are not UTF-8 become surrogates, which `_entry` finds again."""

    def __init__(self, lines: LineReader, row_bytes: int) -> None:
        self._lines = lines
        self._row_bytes = row_bytes
        self._taken = 0

    def begin(self) -> tuple[int, int]:
        """Called before each row: its line and byte."""
        self._taken = 0
        return self._lines.position

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken += len(line.data)
        if not line.whole or self._taken > self._row_bytes:
            raise _TooLong
        return line.data.decode("utf-8", "surrogateescape")


def _header(path: str, rows: Iterator[list[str]], columns: Sequence[str], bounds: Bounds) -> list[str] | None:
    try:
        header = next((cells for cells in rows if cells), None)
    except csv.Error as error:
        raise ValidationError(f"{path}: the header is not CSV: {error}", param=path) from error
    except _TooLong:
        message = f"{path}: the header is longer than {size(bounds.row_bytes)}"
        raise BodyTooLarge(message, param=path) from None
    if header is not None:
        check_columns(path, columns, header, bounds)
    return header


def check_columns(path: str, wanted: Sequence[str], present: Sequence[str], bounds: Bounds) -> None:
    """Raises `ValidationError` for a table that has none of the columns that are looked for, or too many at all."""
    if len(present) > bounds.columns:
        raise ValidationError(f"{path}: {len(present)} columns; at most {bounds.columns} are read", param=path)
    if not set(wanted) & set(present):
        found = ", ".join(repr(name) for name in present[:20])
        missing = f"{path}: no column {' or '.join(wanted)}; it has {found}. Name the column of the input with --field"
        raise ValidationError(missing, param="field")


def _entry(header: list[str], cells: list[str], line: int, byte: int) -> Entry:
    if not cells:
        return Blank(line)
    if len(cells) != len(header):
        message = f"the row has {len(cells)} cells, the header {len(header)}"
        return Fault.of(ValidationError, message, line, byte)
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return Fault.of(InvalidEncoding, "the row is not UTF-8", line, byte)
    return Record(dict(zip(header, cells, strict=True)), line, byte)
