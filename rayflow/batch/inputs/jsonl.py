"""JSON Lines: each line is exactly one record or one fault; blank lines are counted.

Our own line reader instead of DuckDB's or Arrow's: those drop bad lines, turn them into rows of nulls, or refuse the
whole file. Lines are I-JSON, as request bodies are: what two readers could understand differently is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from rayflow.api import ijson
from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.lines import BrokenStream, Line, LineReader
from rayflow.batch.inputs.places import Place
from rayflow.batch.inputs.records import Blank, Entry, Fault, Record
from rayflow.errors import ValidationError


def read_jsonl(place: Place, bounds: Bounds) -> Iterator[Entry]:
    """Raises `ValidationError` where nothing can be read, `OSError` where the file cannot be opened."""
    with place.text() as file:
        try:
            for line in LineReader(file, bounds.row_bytes):
                yield _entry(line, bounds)
        except BrokenStream as error:
            broken = error.or_unreadable(place.path)
            yield Fault.of(ValidationError, str(broken), broken.line, broken.byte)


def _entry(line: Line, bounds: Bounds) -> Entry:
    if not line.whole:
        return Fault.too_long("the line", bounds.row_bytes, line.number, line.byte)
    if not line.data.strip():
        return Blank(line.number)
    return decoded("the line", line.data, line.number, line.byte, bounds.depth)


def decoded(what: str, data: bytes, line: int, byte: int, depth: int) -> Record | Fault:
    """One JSON text as a record; as a fault where it is none."""
    try:
        return Record(ijson.loads(data, depth, what), line, byte)
    except ValidationError as error:
        return Fault.of(type(error), error.message, line, byte)
