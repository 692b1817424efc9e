"""A batch job: a dataset through the workflow, a bounded number of items in flight.

The window slides: each worker takes the next item as soon as its last one is done, so a slow item holds up nobody
(fixed groups would wait for the slowest of each). A row is in the journal before its worker takes another item.
Whatever ends the job, the rows so far are kept, and the next start of the same job runs only what is left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rayflow.batch.feed import Feed
from rayflow.batch.folder import Job, JobFolder
from rayflow.batch.items import BadItem, Item
from rayflow.batch.journal import Journal
from rayflow.batch.replay import Replay, RunClient, Sleep, bad_row
from rayflow.batch.results import write_results
from rayflow.batch.source import InputIdentity, Source
from rayflow.batch.summary import Summary
from rayflow.clock import SYSTEM_CLOCK, Clock
from rayflow.events import Event
from rayflow.ids import new_event_id

SYNC_INTERVAL_S = 0.5
"""How much work a power cut may cost; a killed process costs none."""


@dataclass(slots=True)
class Progress:
    """How far this start is. `skipped`: items that an earlier start finished."""

    total: int
    skipped: int = 0
    in_flight: int = 0
    ok: int = 0
    failed: int = 0

    @property
    def run(self) -> int:
        return self.ok + self.failed

    @property
    def done(self) -> int:
        return self.skipped + self.run


class BatchJob:
    """One start of a job. `total`: items of the source, where it is already known.

    `retry_failed`: items whose row is an error are run again. `overwrite`: forget what the folder holds.
    """

    def __init__(
        self,
        client: RunClient,
        source: Source,
        folder: JobFolder,
        *,
        identity: InputIdentity | None = None,
        total: int | None = None,
        concurrency: int = 16,
        retry_failed: bool = False,
        overwrite: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._client = client
        self._source = source
        self._folder = folder
        self._identity = identity or source.identity()
        self._concurrency = concurrency
        self._retry_failed = retry_failed
        self._overwrite = overwrite
        self._clock = clock
        self._sleep = sleep
        self._feed: Feed | None = None
        self._stopped = False
        self._progress = Progress(source.count() if total is None else total)

    @property
    def progress(self) -> Progress:
        if self._feed is not None:
            self._progress.skipped = self._feed.skipped
        return self._progress

    def stop(self) -> None:
        """Begin no further item; `run` returns when those in flight are finished."""
        self._stopped = True
        if self._feed is not None:
            self._feed.stop()

    async def run(self) -> Summary:
        """Run what is left to run and write the results.

        Raises `Conflict` where the folder belongs to another input or process, `ValidationError` where the input
        cannot be read, `StorageError` where results cannot be written. Cancelling drops the runs in flight and writes
        no results, but keeps all finished rows.
        """
        began = self._clock.now()
        with self._folder.opened(self._identity, self._client.now_us(), self._overwrite) as (job, journal):
            self._emit("batch.started", job, data={"input": str(self._source.path), "items": self._progress.total})
            try:
                blank_lines = await self._run_items(job, journal)
                summary = await asyncio.to_thread(self._finish, job, journal, blank_lines, self._clock.now() - began)
            except BaseException as error:
                status = "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
                self._emit_finished(job, journal, status, began)
                raise
            self._emit_finished(job, journal, "ok" if summary.state == "finished" else "cancelled", began)
            return summary

    async def _run_items(self, job: Job, journal: Journal) -> int:
        """Run the window to its end; the number of blank lines of the input."""
        items = self._source.items()
        replay = Replay(self._client, job.job_id, clock=self._clock, sleep=self._sleep)
        self._feed = feed = Feed(items, lambda ordinal: not journal.has(ordinal) or self._again(journal, ordinal))
        if self._stopped:
            feed.stop()
        try:
            async with asyncio.TaskGroup() as tasks:
                syncing = tasks.create_task(_keep_durable(journal))
                work = (self._work(feed, replay, job, journal) for _ in range(self._concurrency))
                await asyncio.wait([tasks.create_task(worker) for worker in work])
                syncing.cancel()
        except ExceptionGroup as group:
            # One task's error ends them all; the first is the cause, the others are the same disk or file again.
            raise group.exceptions[0] from None
        return items.blank_lines

    async def _work(self, feed: Feed, replay: Replay, job: Job, journal: Journal) -> None:
        while (item := await feed.next()) is not None:
            if isinstance(item, BadItem):
                journal.append(bad_row(item))
                self._progress.failed += 1
            else:
                await self._run_item(item, replay, job, journal)

    async def _run_item(self, item: Item, replay: Replay, job: Job, journal: Journal) -> None:
        before = journal.get(item.ordinal)
        self._progress.in_flight += 1
        try:
            row = await replay.run(item, job.session_id(item.ordinal), before.attempts if before else 0)
        finally:
            self._progress.in_flight -= 1
        journal.append(row)
        if row.status == "ok":
            self._progress.ok += 1
        else:
            self._progress.failed += 1

    def _again(self, journal: Journal, ordinal: int) -> bool:
        return self._retry_failed and journal.has_failed(ordinal)

    def _finish(self, job: Job, journal: Journal, blank_lines: int, elapsed_s: float) -> Summary:
        journal.sync()
        totals = write_results(self._folder, journal)
        progress = self.progress
        summary = Summary(
            job_id=job.job_id,
            input=str(self._source.path),
            out=str(self._folder.path),
            state="finished" if self._feed is not None and self._feed.finished else "interrupted",
            total=progress.total,
            items=totals.items,
            ok=journal.ok,
            failed=journal.failed,
            blank_lines=blank_lines,
            turns=totals.turns,
            prompt_tokens=totals.prompt_tokens,
            completion_tokens=totals.completion_tokens,
            errors=dict(totals.errors.most_common()),
            run=progress.run,
            elapsed_s=round(elapsed_s, 3),
            items_per_s=round(progress.run / elapsed_s, 2) if elapsed_s > 0 else 0.0,
        )
        self._folder.write_summary(summary)
        return summary

    def _emit_finished(self, job: Job, journal: Journal, status: str, began: float) -> None:
        data: dict[str, str | int] = {"ok": journal.ok, "failed": journal.failed}
        self._emit("batch.finished", job, status=status, duration_ms=(self._clock.now() - began) * 1e3, data=data)

    def _emit(
        self,
        kind: str,
        job: Job,
        *,
        data: dict[str, str | int],
        status: str = "",
        duration_ms: float | None = None,
    ) -> None:
        self._client.emit(
            Event(
                kind=kind,
                ts_us=self._client.now_us(),
                channel="batch",
                job_id=job.job_id,
                status=status,
                duration_ms=duration_ms,
                event_id=new_event_id(),
                data=data,
            )
        )


async def _keep_durable(journal: Journal) -> None:
    """Group commit: one fsync for all rows of the last moment, off the loop."""
    while True:
        await asyncio.sleep(SYNC_INTERVAL_S)
        await asyncio.to_thread(journal.sync)
