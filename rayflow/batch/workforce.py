"""Who runs the rows of a job: its own process (`alone`), or feeders (`crew`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from rayflow.batch.status import Totals
from rayflow.errors import WorkflowError


class Ends(NamedTuple):
    """What ends a start of a job. `refused`: any other row would be told the same. `starved`: the job may not spend
    what one more row may cost."""

    refused: Callable[[WorkflowError], None]
    starved: Callable[[], None]


class Workforce(Protocol):
    """Numbers are as in `JobStatus`."""

    @property
    def totals(self) -> Totals: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def window(self) -> int: ...

    @property
    def run(self) -> int:
        """Rows that were done since this start."""
        ...

    @property
    def blank_lines(self) -> int: ...

    def halt(self) -> None:
        """Begin no further row; `work` returns when those in flight are finished."""
        ...

    async def work(self) -> int | None:
        """Run what is left. How many rows the selection has, when all of them are done; None when it was halted. What
        is finished is part of the results, however this ends."""
        ...
