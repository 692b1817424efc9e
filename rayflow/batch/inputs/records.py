"""What a dataset file holds, before anybody asks whether it makes sense.

A reader yields one entry per line or row and never stops at a bad one: what cannot be read is a `Fault` in its place,
so that positions stay true and every input has exactly one output.
"""

from __future__ import annotations

from typing import Self

import msgspec

from rayflow.errors import BodyTooLarge, WorkflowError


class Record(msgspec.Struct, frozen=True):
    """One decoded value. `line` counts from 1; `byte` is where that line begins in the (uncompressed) text, from 0."""

    value: object
    line: int | None = None
    byte: int | None = None


class Fault(msgspec.Struct, frozen=True):
    """One line or row that cannot be read. `slug` names a class of `rayflow.errors`."""

    slug: str
    message: str
    line: int | None = None
    byte: int | None = None

    @classmethod
    def of(cls, kind: type[WorkflowError], message: str, line: int | None = None, byte: int | None = None) -> Self:
        return cls(kind.slug, message, line, byte)

    @classmethod
    def too_long(cls, what: str, row_bytes: int, line: int | None = None, byte: int | None = None) -> Self:
        return cls.of(BodyTooLarge, f"{what} is longer than {size(row_bytes)}", line, byte)


class Blank(msgspec.Struct, frozen=True):
    """A line without content: counted, but no item."""

    line: int


Entry = Record | Fault | Blank


def size(number: int) -> str:
    """A number of bytes for people."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= scale:
            return f"{number / scale:.4g} {unit}"
    return f"{number} bytes"
