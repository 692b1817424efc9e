"""Batch jobs in rayflow's own terms: handed in, looked at, cancelled, resumed, and their results.

Results are read by a child process that ends with the answer: what reads Parquet would stay in the memory of this one.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from secrets import token_hex

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.body import read_json
from rayflow.api.decode import convert, fault
from rayflow.api.exchange import Exchange
from rayflow.api.files import sent
from rayflow.api.headers import safe_id
from rayflow.api.job_handlers import JobHandlers
from rayflow.api.job_shapes import Job, JobPage, JobRequest, job_of
from rayflow.api.openapi import DocumentedApi, answers, bytes_of, request_body
from rayflow.api.paging import Page
from rayflow.api.responses import json_response
from rayflow.app.jobs.records import Callback, JobRecord, new_job_id
from rayflow.app.jobs.roots import within
from rayflow.callbacks import Callbacks
from rayflow.errors import StorageError

EXPORT_MODULE = "rayflow.batch.export_process"
_SUFFIX = re.compile(r"(\.[a-z]{3,7})?(\.gz|\.zst)?\Z")
MEDIA_TYPES = {"jsonl": "application/jsonl", "parquet": "application/vnd.apache.parquet"}


class Jobs(JobHandlers):
    __slots__ = ()

    async def create(self, request: Request) -> Response:
        exchange, config = Exchange.of(request), self.client.config
        body = convert(await read_json(exchange.headers, request.receive, config.security), JobRequest)
        self._check(body)
        record = await asyncio.to_thread(self._create, body, exchange.tenant)
        self.wake()
        return json_response(job_of(record), status=202)

    async def list(self, request: Request) -> Response:
        page = Page.of(request)
        records = await asyncio.to_thread(self.store.all, Exchange.of(request).tenant, "native")
        shown, more = page.cut(records)
        return json_response(JobPage(jobs=[job_of(record) for record in shown], has_more=more))

    async def get(self, request: Request, job_id: str) -> Response:
        return json_response(job_of(await self._record(request, job_id)))

    async def cancel(self, request: Request, job_id: str) -> Response:
        record = await asyncio.to_thread(self.store.cancel, await self._record(request, job_id))
        self.wake()
        return json_response(job_of(record))

    async def resume(self, request: Request, job_id: str) -> Response:
        record = await asyncio.to_thread(self.store.resume, await self._record(request, job_id))
        self.wake()
        return json_response(job_of(record))

    async def results(self, request: Request, job_id: str) -> Response:
        """The rows so far, in the order of the input. `format`: jsonl or parquet."""
        record = await self._record(request, job_id)
        kind = request.query_params.get("format", "jsonl")
        if kind not in MEDIA_TYPES:
            raise fault("format", f"must be one of {', '.join(MEDIA_TYPES)}")
        folder = self.store.files(record.id).folder
        target = folder / f".results-{token_hex(8)}"
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", EXPORT_MODULE, str(os.getpid()), kind, str(folder), str(target)
            )
            try:
                code = await child.wait()
            finally:
                if child.returncode is None:
                    child.kill()
            if code:
                raise StorageError("the results cannot be read: see the log of this process")
            return await sent(target, MEDIA_TYPES[kind], once=True)
        finally:
            target.unlink(missing_ok=True)

    async def _record(self, request: Request, job_id: str) -> JobRecord:
        return await asyncio.to_thread(self.store.get, Exchange.of(request).tenant, job_id, "native")

    def _check(self, body: JobRequest) -> None:
        config = self.client.config
        body.check()
        if body.user_id:
            safe_id(body.user_id, "user_id")
        if body.agent and body.agent not in {agent.name for agent in config.agents}:
            raise fault("agent", "is no agent of this workflow")
        if body.concurrency is not None and body.concurrency > config.batch.concurrency:
            raise fault("concurrency", f"may be {config.batch.concurrency} here (batch.concurrency)")
        if body.feeders > config.batch.max_feeders:
            raise fault("feeders", f"may be {config.batch.max_feeders} here (batch.max_feeders)")
        for index, path in enumerate(body.input.paths or ()):
            if not within(path, config.batch.input_roots):
                raise fault(f"input.paths[{index}]", "lies in none of the folders that batch.input_roots allows")
        if body.callback_url is not None:
            Callbacks(config.security.callback_hosts).check(body.callback_url)

    def _create(self, body: JobRequest, tenant: str) -> JobRecord:
        content: Path | bytes | None = None
        suffix = ".jsonl"
        if body.input.file_id is not None:
            content = self.files.content(tenant, body.input.file_id)
            found = _SUFFIX.search(self.files.get(tenant, body.input.file_id).filename.lower())
            suffix = found[0] if found else ""
        elif body.input.items is not None:
            content = b"".join(msgspec.json.encode(item) + b"\n" for item in body.input.items)
            body = msgspec.structs.replace(body, input=msgspec.structs.replace(body.input, items=None, format="jsonl"))
        record = JobRecord(
            id=new_job_id(),
            kind="native",
            tenant=tenant,
            status="queued",
            created_s=self.client.now_us() // 1_000_000,
            input_file_id=body.input.file_id or "",
            metadata=dict(body.metadata or {}),
            request=msgspec.to_builtins(body),
            callback=Callback(body.callback_url) if body.callback_url else None,
        )
        return self.store.create(record, content, suffix)


def add_job_routes(api: DocumentedApi, jobs: Jobs) -> None:
    one = "/batches/{job_id}"
    job = answers(200, "The job.", Job)
    api.route(
        "POST",
        "/batches",
        jobs.create,
        "Run the workflow over rows, when there is room",
        answers(202, "It is queued.", Job),
        request_body(JobRequest),
    )
    api.route("GET", "/batches", jobs.list, "Your jobs", answers(200, "A page of jobs.", JobPage))
    api.route("GET", one, jobs.get, "One job", job)
    api.route("POST", f"{one}/cancel", jobs.cancel, "Begin no further row of a job", job)
    api.route("POST", f"{one}/resume", jobs.resume, "Go on with a job that rests", job)
    api.route("GET", f"{one}/results", jobs.results, "The rows of a job so far", bytes_of("JSON Lines, or Parquet."))
