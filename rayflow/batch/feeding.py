"""Rows at work: a bounded number in flight, and a line of the journal for each that is done.

The window slides: the next row is begun as soon as one is done, so a slow one holds up nobody (fixed groups would wait
for the slowest of each). On the event loop a row costs its run and one line of the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from rayflow.batch.directory import Job
from rayflow.batch.left import Entry
from rayflow.batch.pacing import Mean, Purse, Rate, Window
from rayflow.batch.ranges import Range
from rayflow.batch.reading import Ahead
from rayflow.batch.runner import Bill, Halted, Paused, RunClient, Runner, bad_row
from rayflow.batch.spec import JobSpec
from rayflow.batch.tasks import BadTask, Task
from rayflow.chat import Usage
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ValidationError, WorkflowError

SYNC_INTERVAL_S = 0.5
"""How much work a power cut may cost; a killed process costs none."""
GUESS_TOKENS = 500
"""What a prompt or an answer may have, before any was seen."""


class Feeding:
    """`settled` is called with each range whose rows are all done. `refused`: what every other row would be told as
    well. `starved`: there is not enough left of the purse for one more row, and none is in flight."""

    def __init__(
        self,
        client: RunClient,
        job: Job,
        purse: Purse | None,
        settled: Callable[[Range], Coroutine[Any, Any, None]],
        refused: Callable[[WorkflowError], None],
        starved: Callable[[], None],
        clock: Clock,
    ) -> None:
        limits = job.spec.limits
        self.halted = asyncio.Event()
        self.window = Window(limits.concurrency)
        self.in_flight = 0
        self.run = 0
        """Rows that were done."""
        self._open = True
        self._purse = purse
        self._settled = settled
        self._refused = refused
        self._starved = starved
        self._clock = clock
        self._room = asyncio.Event()
        self._row_rate = Rate(limits.rows_per_s) if limits.rows_per_s else None
        self._token_rate = Rate(limits.tokens_per_min / 60) if limits.tokens_per_min else None
        self._tokens = Mean(2 * GUESS_TOKENS)
        self._runner = Runner(client, job.spec, job.job_id, job.starts, self.halted, self.window, clock)

    def halt(self) -> None:
        """Begin no further row."""
        self.halted.set()
        self._room.set()

    def limit(self, concurrency: int, rows_per_s: float | None, tokens_per_min: float | None) -> None:
        """From now on so much, of what the job limits at all. A concurrency of 0 begins nothing."""
        self._open = concurrency > 0
        if self._open:
            self.window.limit(concurrency)
        if self._row_rate is not None and rows_per_s:
            self._row_rate.limit(rows_per_s)
        if self._token_rate is not None and tokens_per_min:
            self._token_rate.limit(tokens_per_min / 60)
        self._room.set()

    async def feed(self, ahead: Ahead[Entry], work: asyncio.TaskGroup) -> bool:
        """Begin what `ahead` hands out, as tasks of `work`. Whether that was all, and not the end of the job."""
        while not self.halted.is_set():
            entry = await ahead.next()
            if entry is None:
                break
            part, task = entry
            if task is None:
                part.passed = True
                self._settle(part, work)
            elif isinstance(task, BadTask):
                part.add(bad_row(task))
                self.run += 1
            elif (reserved := await self._admitted()) is not None:
                part.pending += 1
                self.in_flight += 1
                work.create_task(self._run_task(part, task, reserved, work))
        return not self.halted.is_set()

    async def _admitted(self) -> float | None:
        """Wait until one more row may be begun; what is set aside for it, or None where the job ends."""
        while not self.halted.is_set():
            wait_s = self._wait_s()
            if wait_s > 0.0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self.halted.wait()
                continue
            self._room.clear()
            if self._open and self.in_flight < self.window.size:
                reserved = self._purse.reserve() if self._purse is not None else 0.0
                if reserved is not None:
                    self._use()
                    return reserved
                if not self.in_flight:
                    self._starved()
            await self._room.wait()
        return None

    def _wait_s(self) -> float:
        now = self._clock.now()
        return max((rate.wait_s(now) for rate in (self._row_rate, self._token_rate) if rate), default=0.0)

    def _use(self) -> None:
        now = self._clock.now()
        if self._row_rate is not None:
            self._row_rate.use(now)
        if self._token_rate is not None:
            self._token_rate.use(now, self._tokens.value)

    async def _run_task(self, part: Range, task: Task, reserved: float, work: asyncio.TaskGroup) -> None:
        expected = self._tokens.value
        try:
            row = await self._runner.run(task)
        except (Paused, Halted) as end:
            if self._purse is not None:
                self._purse.release(reserved)
            if isinstance(end, Paused):
                self._refused(end.error)
            return
        finally:
            self.in_flight -= 1
            self._room.set()
        self.window.done()
        used = row.prompt_tokens + row.completion_tokens
        self._tokens.add(used)
        if self._token_rate is not None:
            self._token_rate.correct(used - expected)
        if self._purse is not None:
            self._purse.settle(reserved, row.cost_usd or 0.0)
        part.add(row)
        self.run += 1
        part.pending -= 1
        self._settle(part, work)

    def _settle(self, part: Range, work: asyncio.TaskGroup) -> None:
        if part.passed and not part.pending:
            work.create_task(self._settled(part))


def budget(config: WorkflowConfig, spec: JobSpec, spent: float) -> Purse | None:
    """What the job may still spend, where that is limited. Raises `ValidationError` where nobody could tell."""
    limit = spec.limits.cost_usd
    if limit is None:
        return None
    dearest = Bill(config).dearest
    if not dearest.priced:
        raise ValidationError(
            "a limit of the cost needs prices: set price_prompt and price_completion of the models",
            param="cost_usd",
        )
    answer = spec.params.max_tokens or spec.params.max_completion_tokens or GUESS_TOKENS
    return Purse(limit, spent, dearest.cost(Usage(GUESS_TOKENS, answer)))


def size(entry: Entry) -> int:
    """Of what was read ahead, in characters."""
    _, task = entry
    return sum(len(message.text) for turn in task.turns for message in turn) if isinstance(task, Task) else 0
