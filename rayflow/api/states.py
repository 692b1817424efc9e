"""Working states of sessions over HTTP. Another tenant's session does not exist, so neither does its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeVar
from urllib.parse import quote

import msgspec
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.body import read_json
from rayflow.api.decode import convert
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id
from rayflow.api.responses import json_response
from rayflow.api.state_shapes import (
    CheckpointRequest,
    RestoreRequest,
    StateCheckpoints,
    StateHistory,
    StatePatch,
    change_of,
    checkpoint_of,
    state_of,
)
from rayflow.app.client import SystemClient
from rayflow.app.working_state import WorkingState
from rayflow.policies.state import StateUpdate

MAX_PAGE = 100

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class States:
    client: SystemClient

    async def read(
        self,
        request: Request,
        session_id: str,
        version: Annotated[int | None, Query(ge=0, lt=2**63, description="An earlier version.")] = None,
    ) -> Response:
        return json_response(state_of(session_id, await self._state(request, session_id).read(version)))

    async def update(self, request: Request, session_id: str) -> Response:
        body = await self._body(request, StatePatch)
        update = StateUpdate(body.update or {}, body.replace or {}, body.remove or [], body.keep_only)
        view = await self._state(request, session_id).update(update, body.version)
        return json_response(state_of(session_id, view))

    async def history(
        self,
        request: Request,
        session_id: str,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most of them to return.")] = 20,
        before: Annotated[int | None, Query(ge=1, lt=2**63, description="Only versions below this one.")] = None,
    ) -> Response:
        found = await self._state(request, session_id).history(limit, before)
        more = found[-1].version if len(found) == limit and found[-1].version > 1 else None
        return json_response(StateHistory([change_of(delta) for delta in found], more))

    async def checkpoints(self, request: Request, session_id: str) -> Response:
        marks = await self._state(request, session_id).checkpoints()
        return json_response(StateCheckpoints([checkpoint_of(name, mark) for name, mark in marks.items()]))

    async def checkpoint(self, request: Request, session_id: str) -> Response:
        body = await self._body(request, CheckpointRequest)
        mark = await self._state(request, session_id).checkpoint(body.name, body.version)
        location = f"/sessions/{quote(session_id, safe='')}/state/checkpoints/{quote(body.name, safe='')}"
        return json_response(checkpoint_of(body.name, mark), [(b"location", location.encode())], status=201)

    async def delete_checkpoint(self, request: Request, session_id: str, name: str) -> Response:
        await self._state(request, session_id).delete_checkpoint(name)
        return Response(status_code=204)

    async def restore(self, request: Request, session_id: str) -> Response:
        body = await self._body(request, RestoreRequest)
        state = self._state(request, session_id)
        view = await state.restore(body.checkpoint, body.version, body.expected_version)
        return json_response(state_of(session_id, view))

    def _state(self, request: Request, session_id: str) -> WorkingState:
        exchange = Exchange.of(request)
        return WorkingState(self.client, exchange.tenant, safe_id(session_id, "session_id"), exchange.id)

    async def _body(self, request: Request, kind: type[T]) -> T:
        headers, limits = Exchange.of(request).headers, self.client.config.security
        return convert(await read_json(headers, request.receive, limits), kind)
