"""A batch job at work: from its folder to its end, with a row of the results for each row of the input.

The process that runs this owns the folder: it alone changes parts of the results. Whatever ends the job, the rows so
far are kept, and the next start of the same job runs only what is left.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from rayflow.batch.alone import Alone
from rayflow.batch.crew import Crew
from rayflow.batch.directory import Job, JobDirectory
from rayflow.batch.feeding import budget
from rayflow.batch.left import check_all
from rayflow.batch.ranges import recover
from rayflow.batch.runner import RunClient
from rayflow.batch.selection import Reader
from rayflow.batch.status import JobStatus, State, Totals
from rayflow.batch.workforce import Ends, Workforce
from rayflow.clock import SYSTEM_CLOCK, Clock
from rayflow.errors import BudgetExceeded, ValidationError, WorkflowError
from rayflow.events import Event
from rayflow.runtime.ports import Fabric

REPORT_INTERVAL_S = 1.0
RATE_REPORTS = 30
"""Over so many reports the rate is taken."""


class JobRun:
    """One start of a job. `source` reads its inputs. `total`: rows of the selection, where that is known.

    `retry_failed`: rows that are errors are run again. `overwrite`: forget what the folder holds. `fabric`: where the
    feeders are, of a job that has several.
    """

    def __init__(
        self,
        client: RunClient,
        directory: JobDirectory,
        job: Job,
        source: Reader,
        *,
        total: int | None = None,
        retry_failed: bool = False,
        overwrite: bool = False,
        fabric: Fabric | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._directory = directory
        self._job = job
        self._spec = job.spec
        self._limits = job.spec.limits
        self._source = source
        self._total = total
        self._retry_failed = retry_failed
        self._overwrite = overwrite
        self._fabric = fabric
        self._clock = clock
        self._end: tuple[State, str] | None = None
        """How it was asked to end, and why."""
        self._workforce: Workforce | None = None
        self._began = clock.now()
        self._samples: deque[tuple[float, int]] = deque(maxlen=RATE_REPORTS)

    @property
    def status(self) -> JobStatus:
        """How far it is now."""
        return self._status("running")

    def stop(self, state: State = "interrupted", reason: str = "", error: str = "") -> None:
        """Begin no further row; `run` returns when those in flight are finished. `error`: slug of what paused it."""
        if self._end is None:
            if state == "paused":
                self._emit("batch.paused", error=error, error_message=reason)
            self._end = state, f"{error}: {reason}" if error else reason
            if self._workforce is not None:
                self._workforce.halt()

    async def run(self) -> JobStatus:
        """Run what is left to run.

        Raises `Conflict` where the folder belongs to another process or the input has changed, `ValidationError` where
        the input cannot be read, `StorageError` where results cannot be written. Cancelling drops the rows in flight,
        but keeps all that are finished.
        """
        with self._directory.started(self._job, overwrite=self._overwrite) as job:
            self._job = job
            self._workforce = self._workers(job, await asyncio.to_thread(recover, self._directory))
            if self._end is not None:
                self._workforce.halt()
            self._began = self._clock.now()
            if job.starts == 1:
                self._emit(
                    "batch.started", data={"input": ", ".join(self._spec.inputs.paths), "items": self._total or 0}
                )
            else:
                self._emit("batch.resumed")
            self._directory.write_status(self.status)
            try:
                selected = await self._work(self._workforce)
                if selected is not None:
                    check_all(self._directory, self._spec, self._workforce.totals.rows, selected)
                    self._end = "finished", ""
            except BaseException as error:
                cancelled = isinstance(error, asyncio.CancelledError)
                self._conclude("interrupted" if cancelled else "failed", "" if cancelled else _said(error))
                raise
            return self._conclude(*(self._end or ("interrupted", "")))

    def _workers(self, job: Job, totals: Totals) -> Workforce:
        purse = budget(self._client.config, job.spec, totals.cost_usd)
        ends = Ends(self._pause, self._out_of_money)
        if job.spec.limits.feeders == 1:
            return Alone(
                self._client,
                self._directory,
                job,
                self._source,
                totals,
                purse,
                ends,
                self._clock,
                retry_failed=self._retry_failed,
            )
        if self._fabric is None:
            raise ValidationError("several feeders need a system to run in", param="feeders")
        return Crew(
            self._fabric, self._directory, job, self._source, totals, ends, self._clock, retry_failed=self._retry_failed
        )

    async def _work(self, workforce: Workforce) -> int | None:
        try:
            async with asyncio.TaskGroup() as tasks:
                reporting = tasks.create_task(self._report())
                selected = await workforce.work()
                reporting.cancel()
        except BaseExceptionGroup as group:
            # One task's error ends them all; the first is the cause, the others are the same disk or file again.
            raise _first(group) from None
        return selected

    # --- its end ---

    def _out_of_money(self) -> None:
        limit = f"the job may cost {self._limits.cost_usd} USD, and has cost {self._totals.cost_usd:.6g}"
        self._pause(BudgetExceeded(f"{limit}; raise the limit to go on"))

    def _pause(self, error: WorkflowError) -> None:
        self.stop("paused", error.message, error.slug)

    def _conclude(self, state: State, reason: str) -> JobStatus:
        status = msgspec.structs.replace(self._status(state), reason=reason)
        self._directory.write_status(status)
        outcome = {"finished": "ok", "failed": "error"}.get(state, "cancelled")
        totals = self._totals
        facts: dict[str, str | int] = {"ok": totals.ok, "failed": totals.failed}
        self._emit("batch.finished", status=outcome, duration_ms=(self._clock.now() - self._began) * 1e3, data=facts)
        return status

    # --- telling ---

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            self._samples.append((self._clock.now(), self._workforce.run if self._workforce else 0))
            self._directory.write_status(self.status)
            match self._directory.asked():
                case "cancel":
                    self.stop("cancelled", "it was asked to")
                case "pause":
                    self.stop("paused", "it was asked to")

    @property
    def _totals(self) -> Totals:
        return self._workforce.totals if self._workforce is not None else Totals()

    def _status(self, state: State) -> JobStatus:
        totals, workforce = self._totals, self._workforce
        run = workforce.run if workforce is not None else 0
        elapsed_s = self._clock.now() - self._began
        since, done = self._samples[0] if self._samples and state == "running" else (self._began, 0)
        passed_s = self._clock.now() - since
        rate = (run - done) / passed_s if passed_s > 0 else 0.0
        left = None if self._total is None else self._total - totals.rows
        now_us = self._client.now_us()
        return JobStatus(
            job_id=self._job.job_id,
            state=state,
            total=self._total,
            totals=msgspec.structs.replace(totals, errors=dict(totals.errors)),
            in_flight=workforce.in_flight if workforce is not None else 0,
            window=workforce.window if workforce is not None else self._limits.concurrency,
            blank_lines=workforce.blank_lines if workforce is not None else 0,
            starts=self._job.starts,
            run=run,
            elapsed_s=round(elapsed_s, 3),
            rows_per_s=round(rate, 2),
            left_s=round(left / rate, 1) if left and rate and state == "running" else None,
            created_us=self._job.created_us,
            updated_us=now_us,
            finished_us=None if state == "running" else now_us,
        )

    def _emit(
        self,
        kind: str,
        status: str = "",
        error: str = "",
        error_message: str = "",
        duration_ms: float | None = None,
        data: dict[str, str | int] | None = None,
    ) -> None:
        event = Event(
            kind,
            self._client.now_us(),
            source="batch",
            channel="batch",
            tenant=self._spec.tenant,
            job_id=self._job.job_id,
            status=status,
            error=error,
            error_message=error_message,
            duration_ms=duration_ms,
            data=data or {},
        )
        self._client.emit(event)


async def run_job(
    client: RunClient, directory: JobDirectory, job: Job, source: Reader, *, total: int | None = None
) -> JobStatus:
    """Run what is left of a job. Raises as `JobRun.run`."""
    return await JobRun(client, directory, job, source, total=total).run()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: BaseException) -> str:
    return f"{error.slug}: {error.message}" if isinstance(error, WorkflowError) else f"{type(error).__name__}: {error}"
