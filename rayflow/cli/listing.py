"""Lists on the terminal: no longer than was asked for, in columns, and harmless."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def first(limit: int, things: AsyncGenerator[T, None]) -> tuple[list[T], bool]:
    """So many of them at most, and whether there are more."""
    found: list[T] = []
    async with aclosing(things):
        async for thing in things:
            if len(found) == limit:
                return found, True
            found.append(thing)
    return found, False


def columns(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def harmless(text: str, keep: str = "") -> str:
    """What people and models write must not command the terminal. `keep`: control characters that may stay."""
    return "".join(char if char.isprintable() or char in keep else "\N{REPLACEMENT CHARACTER}" for char in text)
