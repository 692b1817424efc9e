"""Labelled messages from a file: JSON lines, plain or gzipped, one message a line.

    {"text": "where is my refund", "intent": "billing", "oos": false}

The label's field is named by the caller; it holds a name, or a list of names for a message that belongs to several. A
message whose `oos` is true (out of scope) belongs to nobody.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rayflow.errors import ValidationError

MAX_SHOWN = 12


class Labelled(NamedTuple):
    text: str
    labels: tuple[str, ...]
    """Whose the message is; empty: nobody's."""


class LabelledFile(NamedTuple):
    rows: list[Labelled]
    several: bool
    """Whether labels are lists, so that one message may have several."""

    @property
    def labels(self) -> list[str]:
        return sorted({label for row in self.rows for label in row.labels})


def read(path: Path, field: str) -> LabelledFile:
    """Raises `ValidationError` that names the line and what is wrong with it."""
    rows, several = [], False
    for line, row in _objects(path):
        text, label = row.get("text"), row.get(field)
        if not isinstance(text, str):
            raise _wrong(path, line, "expected an object with a text under 'text'")
        if row.get("oos") is True:
            labels: tuple[str, ...] = ()
        elif isinstance(label, str):
            labels = (label,)
        elif isinstance(label, list) and all(isinstance(name, str) for name in label):
            labels, several = tuple(dict.fromkeys(label)), True
        else:
            fields = ", ".join(sorted(row)[:MAX_SHOWN])
            raise _wrong(path, line, f"expected a label under {field!r} (--label); the fields are {fields}")
        rows.append(Labelled(text, labels))
    if not rows:
        raise ValidationError(f"{path}: expected at least one line, got none", file=str(path))
    return LabelledFile(rows, several)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(path, number, line)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValidationError(f"{path}: cannot be read: {reason}", file=str(path)) from error


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(path, number, f"expected a JSON object: {error}") from error


def _wrong(path: Path, line: int, what: str) -> ValidationError:
    return ValidationError(f"{path}, line {line}: {what}", file=str(path), line=line)
