"""Which rows of the inputs a job runs: a condition, a sample of what fulfils it, and the first so many of those.

All three look at one row, or one chunk of rows, at a time. Bad rows are part of every selection without a sample being
drawn against them: whoever asks for the German rows wants to know of those that nobody can read.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from rayflow.app.durable import replacing
from rayflow.batch.conditions import Condition
from rayflow.batch.rows import BadRow, InputRow
from rayflow.batch.spec import Selection

CHUNK_ROWS = 1024


class Reader(Protocol):
    """Who reads the inputs; `rayflow.batch.inputs.source.Source` does. For a thread."""

    blank_lines: int

    def rows(self) -> Iterator[InputRow]:
        """From the first row on; may be called again. Raises `ValidationError` where a file cannot be read at all."""
        ...


def selected(rows: Iterable[InputRow], selection: Selection, limit: int | None, drawn: Path) -> Iterator[InputRow]:
    """The rows to run, in order. `drawn`: the file that keeps the numbers of the sample (`draw`).

    Raises `ValidationError` for a condition that is none.
    """
    if selection.sample is not None:
        # What was drawn fulfils the condition.
        return islice(_among(rows, array("q", drawn.read_bytes())), limit)
    return islice(fulfilling(rows, selection.where), limit)


def draw(reader: Reader, selection: Selection, drawn: Path) -> None:
    """Draw the sample, where one is asked and was not drawn by an earlier start. Reads all rows."""
    if selection.sample is not None and not drawn.exists():
        found = sample(fulfilling(reader.rows(), selection.where), selection.sample, selection.seed)
        drawn.parent.mkdir(parents=True, exist_ok=True)
        with replacing(drawn) as temporary:
            temporary.write_bytes(found.tobytes())


def sample(rows: Iterable[InputRow], size: int, seed: int) -> array[int]:
    """The ordinals of `size` rows, each row as likely as any other (algorithm R), in order."""
    rng = random.Random(seed)
    found = array("q")
    for place, row in enumerate(rows):
        if place < size:
            found.append(row.ordinal)
        elif (instead := rng.randrange(place + 1)) < size:
            found[instead] = row.ordinal
    return array("q", sorted(found))


def fulfilling(rows: Iterable[InputRow], where: str) -> Iterator[InputRow]:
    """The rows for which the condition is true, and bad ones."""
    if not where:
        yield from rows
        return
    with Condition(where) as condition:
        left = iter(rows)
        while chunk := list(islice(left, CHUNK_ROWS)):
            held = condition.holds([row.value for row in chunk if not isinstance(row.value, BadRow)])
            for row in chunk:
                if isinstance(row.value, BadRow) or next(held):
                    yield row


def _among(rows: Iterable[InputRow], ordinals: array[int]) -> Iterator[InputRow]:
    wanted = iter(ordinals)
    next_one = next(wanted, None)
    for row in rows:
        if next_one is None:
            return
        if row.ordinal == next_one:
            yield row
            next_one = next(wanted, None)
