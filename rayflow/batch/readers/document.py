"""One JSON document: an array of records, or an object that holds one under `items` or `conversations`.

A document can only be understood whole, so it is read whole, up to a limit; large datasets belong into JSON Lines.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from rayflow.batch.readers.lines import open_input
from rayflow.batch.readers.records import Record
from rayflow.errors import BodyTooLarge, InvalidJson, ValidationError

MAX_DOCUMENT_BYTES = 256 * 2**20
LIST_KEYS = ("items", "conversations")


def read_document(path: Path) -> Iterator[Record]:
    """Raises `ValidationError` where the file is no such document, `OSError` where it cannot be opened."""
    for value in _values(path):
        yield Record(value)


def _values(path: Path) -> list[object]:
    try:
        with open_input(path) as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValidationError(f"{path}: the gzip stream is damaged: {error}", param=str(path)) from error
    if len(data) > MAX_DOCUMENT_BYTES:
        limit = MAX_DOCUMENT_BYTES // 2**20
        raise BodyTooLarge(f"{path}: JSON documents may have {limit} MiB; use JSON Lines (.jsonl) for more")
    try:
        document: object = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidJson(f"{path}: not a JSON document: {error.msg} at {place}", param=str(path)) from error
    if isinstance(document, dict):
        document = next((document[key] for key in LIST_KEYS if key in document), document)
    if not isinstance(document, list):
        keys = " or ".join(LIST_KEYS)
        raise ValidationError(f"{path}: expected an array, or an object with an array under {keys}", param=str(path))
    return document
