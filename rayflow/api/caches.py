"""How caches fare, and having kept answers forgotten."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.cache_shapes import CacheReport
from rayflow.api.exchange import Exchange
from rayflow.api.openapi import DocumentedApi, answers, no_content
from rayflow.api.responses import json_response
from rayflow.app.caches import CacheDesk
from rayflow.errors import NotFound


@dataclass(frozen=True, slots=True)
class CacheRoutes:
    desk: CacheDesk
    workflow: str

    async def counts(self) -> Response:
        return json_response(CacheReport(await self.desk.counts()))

    async def forget(self, request: Request) -> Response:
        """Those of the caller's tenant; of one agent where `agent` says so. `workflow` may name this workflow."""
        workflow = request.query_params.get("workflow", self.workflow)
        if workflow != self.workflow:
            raise NotFound(f"this is the workflow {self.workflow!r}", kind="workflow", id=workflow)
        await self.desk.forget(Exchange.of(request).tenant, request.query_params.get("agent", ""))
        return Response(status_code=204)


def add_cache_routes(api: DocumentedApi, caches: CacheRoutes) -> None:
    api.route(
        "GET",
        "/v1/caches",
        caches.counts,
        "Hits, misses, stores and evictions of all caches",
        answers(200, "By cache and level.", CacheReport, openai=True),
    )
    api.route(
        "DELETE",
        "/v1/caches/results",
        caches.forget,
        "Have kept answers forgotten: all, or those of `agent`",
        no_content("No run that begins now gets an earlier answer."),
    )
