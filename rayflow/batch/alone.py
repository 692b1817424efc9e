"""A job whose rows the process of the job runs itself: the way of one feeder.

A thread reads ahead, another one merges the ranges that are finished.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from rayflow.batch.directory import Job, JobDirectory
from rayflow.batch.feeding import SYNC_INTERVAL_S, Feeding, size
from rayflow.batch.left import Left
from rayflow.batch.pacing import Purse
from rayflow.batch.ranges import Range
from rayflow.batch.reading import Ahead
from rayflow.batch.runner import RunClient
from rayflow.batch.selection import Reader
from rayflow.batch.status import Totals
from rayflow.batch.workforce import Ends
from rayflow.clock import Clock


class Alone:
    """A `Workforce`."""

    def __init__(
        self,
        client: RunClient,
        directory: JobDirectory,
        job: Job,
        source: Reader,
        totals: Totals,
        purse: Purse | None,
        ends: Ends,
        clock: Clock,
        *,
        retry_failed: bool,
    ) -> None:
        self.totals = totals
        self._source = source
        self._left = Left(directory, job.spec, source, retry_failed=retry_failed, totals=totals)
        self._feeding = Feeding(client, job, purse, self._settled, ends.refused, ends.starved, clock)
        # One thread: each merge takes the memory of a row group.
        self._merger = ThreadPoolExecutor(1, "merge")

    @property
    def in_flight(self) -> int:
        return self._feeding.in_flight

    @property
    def window(self) -> int:
        return self._feeding.window.size

    @property
    def run(self) -> int:
        return self._feeding.run

    @property
    def blank_lines(self) -> int:
        return self._source.blank_lines

    def halt(self) -> None:
        self._feeding.halt()

    async def work(self) -> int | None:
        ahead = Ahead(self._left.entries(), size, self._feeding.halted)
        try:
            async with asyncio.TaskGroup() as tasks:
                durable = tasks.create_task(self._keep_durable())
                async with asyncio.TaskGroup() as work:
                    finished = await self._feeding.feed(ahead, work)
                durable.cancel()
        finally:
            await ahead.close()
            await self._merge_all()
        return self._left.selected if finished else None

    async def _keep_durable(self) -> None:
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            for part in [*self._left.ranges.values()]:
                await asyncio.to_thread(part.sync)

    async def _settled(self, part: Range) -> None:
        if self._left.ranges.pop(part.number, None) is not None:
            await asyncio.get_running_loop().run_in_executor(self._merger, part.merge)

    async def _merge_all(self) -> None:
        """What is finished of ranges that are not is part of the results, too."""
        merges = [self._merger.submit(part.merge) for part in self._left.ranges.values()]
        self._left.ranges.clear()
        await asyncio.to_thread(self._merger.shutdown)
        for merge in merges:
            merge.result()
