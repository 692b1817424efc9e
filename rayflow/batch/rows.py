"""What comes in: the rows of the inputs, numbered across all of them, before anybody asks whether they make sense.

A reader never stops at a bad row: what cannot be read is a `BadRow` in its place, so that numbers and positions stay
true and every row of the input has exactly one row of the results.
"""

from __future__ import annotations

from typing import Self

import msgspec

from rayflow.errors import WorkflowError


class BadRow(msgspec.Struct, frozen=True):
    """Stands where a value cannot be read. `slug` names a class of `rayflow.errors`."""

    slug: str
    message: str

    @classmethod
    def of(cls, kind: type[WorkflowError], message: str) -> Self:
        return cls(kind.slug, message)


class InputRow(msgspec.Struct, frozen=True):
    """One row. `ordinal` counts from 1 over all inputs of the job. `line` counts the lines of its `source` from 1;
    `byte` is where that line begins in the unpacked text, from 0. `id`: the user's, or None."""

    ordinal: int
    value: object
    """A decoded value, mostly an object, or `BadRow`."""
    id: str | None = None
    source: str = ""
    line: int | None = None
    byte: int | None = None
