"""OpenAI's batches: a file of requests is handed in, run when there is room, and its answers are a file again.

Only the record is written here; `rayflow.batch.desk` runs the job, in a process that is woken for it.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.batch_shapes import WINDOW_S, Batch, BatchList, BatchRequest, batch_of
from rayflow.api.body import read_json
from rayflow.api.decode import convert
from rayflow.api.exchange import Exchange
from rayflow.api.job_handlers import JobHandlers
from rayflow.api.openapi import DocumentedApi, answers, request_body
from rayflow.api.paging import Page
from rayflow.api.responses import json_response
from rayflow.app.jobs.records import JobRecord, new_job_id


class Batches(JobHandlers):
    __slots__ = ()

    async def create(self, request: Request) -> Response:
        exchange = Exchange.of(request)
        body = convert(await read_json(exchange.headers, request.receive, self.client.config.security), BatchRequest)
        body.check()
        record = await asyncio.to_thread(self._create, body, exchange.tenant)
        self.wake()
        return json_response(batch_of(record))

    async def list(self, request: Request) -> Response:
        page = Page.of(request)
        records = await asyncio.to_thread(self.store.all, Exchange.of(request).tenant, "openai")
        shown, more = page.cut(records)
        data = [batch_of(record) for record in shown]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return json_response(BatchList(data=data, first_id=first, last_id=last, has_more=more))

    async def get(self, request: Request, batch_id: str) -> Response:
        record = await asyncio.to_thread(self.store.get, Exchange.of(request).tenant, batch_id, "openai")
        return json_response(batch_of(record))

    async def cancel(self, request: Request, batch_id: str) -> Response:
        record = await asyncio.to_thread(self._cancel, Exchange.of(request).tenant, batch_id)
        self.wake()
        return json_response(batch_of(record))

    def _create(self, body: BatchRequest, tenant: str) -> JobRecord:
        content = self.files.content(tenant, body.input_file_id)
        now_s = self.client.now_us() // 1_000_000
        record = JobRecord(
            id=new_job_id(),
            kind="openai",
            tenant=tenant,
            status="validating",
            created_s=now_s,
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            expires_s=now_s + WINDOW_S,
            metadata=dict(body.metadata or {}),
        )
        return self.store.create(record, content, ".jsonl")

    def _cancel(self, tenant: str, batch_id: str) -> JobRecord:
        return self.store.cancel(self.store.get(tenant, batch_id, "openai"))


def add_batch_routes(api: DocumentedApi, batches: Batches) -> None:
    one = "/v1/batches/{batch_id}"
    batch = answers(200, "The batch.", Batch, openai=True)
    api.route("POST", "/v1/batches", batches.create, "Run a file of requests", batch, request_body(BatchRequest))
    api.route(
        "GET", "/v1/batches", batches.list, "Your batches", answers(200, "A page of batches.", BatchList, openai=True)
    )
    api.route("GET", one, batches.get, "One batch", batch)
    api.route("POST", f"{one}/cancel", batches.cancel, "Begin no further request of a batch", batch)
