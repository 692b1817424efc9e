"""The rows of a job that are left to run: its input, less what its results hold.

Both are read in the order of the input, range by range, so this is a join of two streams and knows of no more rows at a
time than a range has. A row that is finished must still be what it was.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator

from rayflow.batch.directory import JobDirectory
from rayflow.batch.ranges import Range, range_of
from rayflow.batch.rows import InputRow
from rayflow.batch.selection import Reader, draw, selected
from rayflow.batch.spec import JobSpec
from rayflow.batch.status import Totals
from rayflow.batch.tasks import BadTask, Task, Tasks
from rayflow.errors import Conflict, StorageError

Entry = tuple[Range, Task | BadTask | None]
"""A row and its range; no row: the input was read beyond the range."""


class Left:
    """`retry_failed`: rows that are errors are left to run, too. `totals`: what the rows of all ranges add to."""

    def __init__(
        self,
        directory: JobDirectory,
        spec: JobSpec,
        source: Reader,
        *,
        retry_failed: bool = False,
        totals: Totals | None = None,
    ) -> None:
        self.ranges: dict[int, Range] = {}
        """In work: whoever is done with one takes it out."""
        self.selected = 0
        """Rows of the selection that were read so far."""
        self._directory = directory
        self._spec = spec
        self._source = source
        self._retry_failed = retry_failed
        self._totals = totals or Totals()
        self._tasks = Tasks(spec)

    def entries(self) -> Generator[Entry]:
        """The rows that are left, in order. For a thread: it waits for the disk. Raises `Conflict` where the input has
        changed, `ValidationError` where it cannot be read, `StorageError` where the results cannot."""
        draw(self._source, self._spec.selection, self._directory.sample)
        part: Range | None = None
        for row in self.rows():
            number = range_of(row.ordinal)
            if part is None or part.number != number:
                if part is not None:
                    yield part, None
                part = self.ranges[number] = Range(self._directory, number, self._totals)
            yield from self.entry(part, row)
        if part is not None:
            yield part, None

    def rows(self) -> Iterator[InputRow]:
        """The rows of the selection, once it was drawn, from the first one on."""
        self.selected = 0
        spec = self._spec
        for row in selected(self._source.rows(), spec.selection, spec.limits.limit, self._directory.sample):
            self.selected += 1
            yield row

    def entry(self, part: Range, row: InputRow) -> Iterator[Entry]:
        """The row, where it is left to run. Raises `Conflict` where the input has changed."""
        finished = part.finished(row.ordinal)
        if finished is not None and finished.key != self._tasks.key(row):
            raise Conflict(
                f"{self._directory.path} holds the results of another input, or the input has changed since: row"
                f" {row.ordinal} ({row.source or 'the input'}, line {row.line}) is not what it was; use another"
                " folder, or --overwrite"
            )
        if finished is None or (self._retry_failed and finished.failed):
            yield part, self._tasks.task(row)

    def any(self) -> bool:
        """Whether there is a row left. Raises as `entries`."""
        for part, task in self.entries():
            if task is not None:
                return True
            del self.ranges[part.number]
        return False


class Passing:
    """The rows that are left in one range after another. The input is gone through once, as far as ranges come in
    order; one that lies before the last one begins a new pass."""

    def __init__(self, left: Left) -> None:
        self.end: tuple[int, int] | None = None
        """The last range that was asked for, and the rows of the selection, when the input was read to its end."""
        self._left = left
        self._rows: Iterator[InputRow] = iter(())
        self._ahead: InputRow | None = None
        self._at = sys.maxsize

    def entries(self, part: Range) -> Generator[Entry]:
        """Raises as `Left.entries`."""
        if part.number <= self._at:
            self._rows, self._ahead = self._left.rows(), None
        self._at = part.number
        while (row := self._ahead or next(self._rows, None)) is not None:
            self._ahead = None
            number = range_of(row.ordinal)
            if number > part.number:
                self._ahead = row
                break
            if number == part.number:
                yield from self._left.entry(part, row)
        else:
            self.end = part.number, self._left.selected
        yield part, None


def check_all(directory: JobDirectory, spec: JobSpec, rows: int, selected: int) -> None:
    """The input was read to its end: the `rows` of the results must be those of the selection, no more and no fewer."""
    if rows < selected:
        raise StorageError(f"{directory.path} lacks {selected - rows} rows: somebody changed it; start the job again")
    if spec.limits.limit is None and rows > selected:
        raise Conflict(
            f"{directory.path} holds {rows} rows, but the input has only {selected}: it has become shorter since; use"
            " another folder, or --overwrite"
        )
