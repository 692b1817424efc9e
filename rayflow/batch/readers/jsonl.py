"""JSON Lines: each line is exactly one record or one fault; blank lines are counted.

Our own line reader instead of DuckDB's or Arrow's: those drop bad lines, turn them into rows of nulls, or refuse the
whole file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from rayflow.batch.readers.lines import MAX_LINE_BYTES, BrokenStream, Line, LineReader, open_input
from rayflow.batch.readers.records import Blank, Entry, Fault, Record
from rayflow.errors import BodyTooLarge, InvalidEncoding, InvalidJson, ValidationError


def read_jsonl(path: Path) -> Iterator[Entry]:
    """Raises `ValidationError` where nothing can be read, `OSError` where the file cannot be opened."""
    with open_input(path) as file:
        try:
            for line in LineReader(file):
                yield _entry(line)
        except BrokenStream as error:
            broken = error.or_unreadable(path)
            yield Fault.of(ValidationError, str(broken), broken.line, broken.byte)


def _entry(line: Line) -> Entry:
    if not line.whole:
        limit = MAX_LINE_BYTES // 2**20
        return Fault.of(BodyTooLarge, f"the line is longer than {limit} MiB", line.number, line.byte)
    if not line.data.strip():
        return Blank(line.number)
    try:
        return Record(orjson.loads(line.data), line.number, line.byte)
    except orjson.JSONDecodeError as error:
        return _fault(line, error)


def _fault(line: Line, error: orjson.JSONDecodeError) -> Fault:
    try:
        line.data.decode()
    except UnicodeDecodeError as encoding:
        message = f"the line is not UTF-8: {encoding.reason} at its byte {encoding.start}"
        return Fault.of(InvalidEncoding, message, line.number, line.byte)
    message = f"the line is not JSON: {error.msg} at its column {error.colno}"
    return Fault.of(InvalidJson, message, line.number, line.byte)
