"""One job that came in over HTTP, from wherever it is to its end.

Each step leaves the record on disk that says which one comes next, and may be done twice: checking a file, running what
has no row yet, and writing the files of the answers under ids that follow from the job's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rayflow.api.job_shapes import JobRequest
from rayflow.app.client import SystemClient
from rayflow.app.jobs.files import FileStore
from rayflow.app.jobs.records import ENDED, Callback, Counts, JobRecord, JobStore, LineError, Status
from rayflow.app.jobs.roots import within
from rayflow.batch import openai_lines
from rayflow.batch.directory import JobDirectory
from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.source import Source
from rayflow.batch.run import JobRun
from rayflow.batch.spec import Inputs, JobSpec, Judging, Limits, Selection, workflow_version
from rayflow.batch.status import JobStatus
from rayflow.config.schema import BatchConfig
from rayflow.errors import NotFound, ValidationError

REPORT_S = 1.0
"""How often the record is brought up to date while the job runs, and looked whether somebody asked for its end."""
EXPIRED = "it was not finished within its completion window"


class Work:
    """One start. `stop` lets the rows in flight finish; the job goes on with the next start."""

    def __init__(self, client: SystemClient, store: JobStore, job_id: str) -> None:
        self.files = store.files(job_id)
        self._client = client
        self._config = client.config
        self._directory = JobDirectory(self.files.folder)
        self._output = FileStore(Path(client.config.storage.state))
        self._run: JobRun | None = None
        self._stopped = False
        self._record: JobRecord

    def stop(self) -> None:
        self._stopped = True
        if self._run is not None:
            self._run.stop()

    async def run(self) -> None:
        """Raises `WorkflowError` where the job cannot be run."""
        record = await asyncio.to_thread(self.files.read)
        if record is None:
            raise NotFound(f"there is no job in {self.files.folder}", kind="batch", id=self.files.folder.name)
        self._record = record
        if record.status in ENDED:
            return  # somebody was faster
        if self.files.resumed:
            if record.callback is not None:
                self._record = msgspec.structs.replace(record, callback=Callback(record.callback.url))
            await asyncio.to_thread(self.files.begin_again, self._record)
        await (self._openai() if record.kind == "openai" else self._native())

    async def fail(self, reason: str) -> None:
        """The job has ended, and why."""
        await self._write("failed", reason=reason)

    # --- the kinds ---

    async def _openai(self) -> None:
        bounds, path = self._bounds(), str(self.files.input)
        if "in_progress" not in self._record.times and not self.files.cancelled:
            endpoint, most = self._record.endpoint, self._config.batch.max_lines
            try:
                lines, errors = await asyncio.to_thread(openai_lines.faults, path, endpoint, bounds, most)
            except ValidationError as error:
                lines, errors = 0, [LineError("invalid_file", error.message)]
            if errors:
                await self._write("failed", errors=errors)
                return
            await self._write("in_progress", counts=Counts(lines))
        end: Status = "completed"
        if "finalizing" not in self._record.times:
            spec = JobSpec(
                Inputs([path], "openai", bounds=bounds),
                mode="prompt",
                row_params=True,
                adds_instructions=True,
                tenant=self._record.tenant,
                metadata=self._record.metadata,
                limits=Limits(self._config.batch.concurrency),
            )
            ended = await self._rows(spec)
            if ended is None:
                return
            end = ended
            await self._write("finalizing", reason=end)
        else:
            end = "expired" if self._record.reason == "expired" else "completed"
        if self.files.cancelled:
            end = "cancelled"
        written = await asyncio.to_thread(
            openai_lines.write,
            msgspec.structs.replace(self._record, status=end),
            path,
            self._directory,
            self._output,
            self._config.name,
            bounds,
            self._now_s(),
        )
        await self._write(
            end,
            reason="",
            counts=written.counts,
            output_file_id=written.output_file_id,
            error_file_id=written.error_file_id,
        )

    async def _native(self) -> None:
        request = msgspec.convert(self._record.request, JobRequest)
        ended = await self._rows(self._spec(request), request.input.paths)
        if ended is not None:
            await self._write(ended, reason="")

    def _spec(self, request: JobRequest) -> JobSpec:
        config = self._config.batch
        inputs = Inputs(
            paths=request.input.paths or [str(self.files.input)],
            format=request.input.format,
            fields=list(request.fields),
            id_fields=list(request.id_fields),
            role_field=request.role_field,
            content_field=request.content_field,
            bounds=self._bounds(),
        )
        judging = request.judging
        return JobSpec(
            inputs,
            mode=request.mode,
            selection=Selection(sample=request.sample, seed=request.seed),
            judging=Judging(judging.instruction, list(judging.labels), judging.score) if judging else None,
            agent=request.agent,
            params=request.params,
            row_params=request.input.format == "openai",
            adds_instructions=request.input.format == "openai",
            system_prompt=request.system_prompt,
            tenant=self._record.tenant,
            user_id=request.user_id,
            metadata=self._record.metadata,
            limits=Limits(
                concurrency=min(request.concurrency or config.concurrency, config.concurrency),
                limit=request.limit,
                rows_per_s=request.rows_per_s,
                tokens_per_min=request.tokens_per_min,
                cost_usd=request.cost_usd,
                feeders=min(request.feeders, config.max_feeders),
            ),
        )

    # --- rows ---

    async def _rows(self, spec: JobSpec, paths: list[str] | None = None) -> Status | None:
        """Run what has no row yet. How the job has ended, or None where another start goes on with it."""
        if self.files.cancelled:
            return "cancelled"
        if self._expired:
            return "expired"
        config = self._config
        spec = msgspec.structs.replace(spec, workflow=config.name, version=workflow_version(config))
        with suppress(NotFound):
            # A job is finished as it was begun, also when the workflow has changed since.
            spec = msgspec.structs.replace(self._directory.job().spec, limits=spec.limits)
        source, total = await asyncio.to_thread(self._opened, spec, paths)
        job = self._directory.plan(spec, self._client.now_us(), job_id=self._record.id)
        self._run = run = JobRun(self._client, self._directory, job, source, total=total, fabric=self._client.fabric)
        if self._stopped:
            run.stop()
        await self._write(
            "in_progress", counts=Counts(total, self._record.counts.completed, self._record.counts.failed)
        )
        over = asyncio.Event()
        watching = asyncio.create_task(self._watch(run, over))
        try:
            status = await run.run()
        finally:
            # Not cancelled: a record that a thread is writing would come after the next one.
            over.set()
            self._run = None
            await watching
        self._record = self._counted(status)
        match status.state:
            case "finished":
                return "completed"
            case "cancelled":
                return "cancelled"
            case "paused":
                await self._write("paused", reason=status.reason)
                return None
        if status.reason == EXPIRED:
            return "expired"
        await self._write("in_progress")
        return None

    def _opened(self, spec: JobSpec, paths: list[str] | None) -> tuple[Source, int]:
        """The input, and how many rows of it are run. Links may have been laid since the job was taken in, so where it
        leads is looked at again."""
        source = Source(spec.inputs)
        if paths is not None:
            for place in source.places:
                if not within(place.path, self._config.batch.input_roots):
                    raise ValidationError(f"{place.path}: lies in none of the folders that batch.input_roots allows")
        total = source.count()
        most = [number for number in (spec.selection.sample, spec.limits.limit) if number is not None]
        return source, min([total, *most])

    async def _watch(self, run: JobRun, over: asyncio.Event) -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), REPORT_S)
            if await asyncio.to_thread(lambda: self.files.cancelled):
                run.stop("cancelled", "it was asked to")
            elif self._expired:
                run.stop("interrupted", EXPIRED)
            self._record = self._counted(run.status)
            await asyncio.to_thread(self.files.write, self._record)

    @property
    def _expired(self) -> bool:
        expires_s = self._record.expires_s
        return expires_s is not None and self._now_s() >= expires_s

    def _counted(self, status: JobStatus) -> JobRecord:
        totals = status.totals
        return msgspec.structs.replace(
            self._record,
            counts=Counts(self._record.counts.total, totals.ok, totals.failed),
            prompt_tokens=totals.prompt_tokens,
            completion_tokens=totals.completion_tokens,
            cost_usd=totals.cost_usd,
            rows_per_s=status.rows_per_s,
            left_s=status.left_s,
        )

    # --- the record ---

    async def _write(self, status: Status, **changed: Any) -> None:
        self._record = self._record.now(status, self._now_s(), **changed)
        await asyncio.to_thread(self.files.write, self._record)

    def _bounds(self) -> Bounds:
        return bounds_of(self._config.batch)

    def _now_s(self) -> int:
        return self._client.now_us() // 1_000_000


def bounds_of(config: BatchConfig) -> Bounds:
    """What rows may be like, as configured."""
    return Bounds(row_bytes=config.max_row_bytes, rows=config.max_rows, memory_bytes=config.parquet_memory_bytes)
