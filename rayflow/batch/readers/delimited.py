"""CSV: a header, then one record per row; a row may span lines inside quotes.

Rows that break the rules of quoting, hold bytes that are not UTF-8 or do not fit the header are faults; reading goes on
with the next line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from rayflow.batch.readers.lines import MAX_LINE_BYTES, BrokenStream, LineReader, open_input
from rayflow.batch.readers.records import Blank, Entry, Fault, Record
from rayflow.errors import InvalidEncoding, ValidationError


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Entry]:
    """Rows as dicts of text. Raises `ValidationError` where the header has none of `columns`."""
    # The limit is global in the csv module and its default (128 KiB) is below what prompts reach.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    with open_input(path) as file:
        lines = LineReader(file)
        rows = csv.reader(_Text(lines), strict=True)
        try:
            header = _header(path, rows, columns)
            if header is None:
                return
            while True:
                position = lines.position
                try:
                    cells = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Fault.of(ValidationError, f"the row is not CSV: {error}", *position)
                else:
                    yield _entry(header, cells, *position)
        except BrokenStream as error:
            broken = error.or_unreadable(path)
            yield Fault.of(ValidationError, str(broken), broken.line, broken.byte)


class _Text:
    """Decodes lines for the csv module; bytes that are not UTF-8 become surrogates, which `_entry` finds again."""

    def __init__(self, lines: LineReader) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if not line.whole:
            raise csv.Error(f"a line is longer than {MAX_LINE_BYTES // 2**20} MiB")
        return line.data.decode("utf-8", "surrogateescape")


def _header(path: Path, rows: Iterator[list[str]], columns: Sequence[str]) -> list[str] | None:
    try:
        header = next((cells for cells in rows if cells), None)
    except csv.Error as error:
        raise ValidationError(f"{path}: the header is not CSV: {error}", param=str(path)) from error
    if header is not None and not set(columns) & set(header):
        raise ValidationError(missing_columns(path, columns, header), param="field")
    return header


def missing_columns(path: Path, wanted: Sequence[str], present: Sequence[str]) -> str:
    found = ", ".join(repr(name) for name in present[:20])
    return f"{path}: no column {' or '.join(wanted)}; it has {found}. Name the column of the input with --field"


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
