"""Sessions over HTTP. A request sees the sessions of its tenant; those of others do not exist for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeVar
from urllib.parse import quote

import msgspec
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.body import has_body, read_json
from rayflow.api.decode import convert
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id, session_lock
from rayflow.api.responses import json_response
from rayflow.api.session_shapes import (
    ForkRequest,
    Lock,
    LockRequest,
    SessionChange,
    SessionHistory,
    SessionPage,
    SessionRequest,
    cursor_of,
    position_of,
    session_of,
    turn_of,
)
from rayflow.app.client import SystemClient
from rayflow.app.shards import position
from rayflow.app.working_state import inherit_state
from rayflow.ids import new_session_id
from rayflow.messages import (
    CloseSession,
    CreateSession,
    DeleteSession,
    ForkSession,
    GetHistory,
    GetSession,
    ListSessions,
    LockSession,
    SessionInfo,
    UnlockSession,
    UpdateSession,
)

MAX_PAGE = 1000

T = TypeVar("T", bound=msgspec.Struct)
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most of them to return.")]


@dataclass(frozen=True, slots=True)
class Sessions:
    client: SystemClient

    async def create(self, request: Request) -> Response:
        body = await self._body(request, SessionRequest)
        session_id = new_session_id() if body.session_id is None else safe_id(body.session_id, "session_id")
        user_id = "" if body.user_id is None else safe_id(body.user_id, "user_id")
        make = CreateSession(_tenant(request), session_id, user_id, body.metadata or {}, body.title or "")
        return _made(request, await self.client.session(make))

    async def list(
        self,
        request: Request,
        user_id: Annotated[str, Query(description="Only those of this user.")] = "",
        limit: Limit = 100,
        cursor: Annotated[str, Query(description="Where the last page said that the next one begins.")] = "",
    ) -> Response:
        user_id = user_id and safe_id(user_id, "user_id")
        after = position_of(cursor) if cursor else None
        found = (await self.client.shards.list(ListSessions(_tenant(request), user_id, limit, after))).sessions
        more = cursor_of(position(found[-1])) if len(found) == limit else None
        return json_response(SessionPage([session_of(info) for info in found], more))

    async def get(self, request: Request, session_id: str) -> Response:
        return json_response(session_of(await self.client.session(GetSession(*_key(request, session_id)))))

    async def update(self, request: Request, session_id: str) -> Response:
        body = await self._body(request, SessionChange)
        change = UpdateSession(*_key(request, session_id), body.title, body.metadata or {}, body.version or 0)
        return json_response(session_of(await self.client.session(change)))

    async def history(
        self,
        request: Request,
        session_id: str,
        after: Annotated[int, Query(ge=0, lt=2**63, description="Leave out turns up to this `seq`.")] = 0,
        limit: Limit = 100,
    ) -> Response:
        page = await self.client.session(GetHistory(*_key(request, session_id), after, limit))
        last = page.turns[-1].seq if len(page.turns) == limit else None
        return json_response(SessionHistory(session_of(page.info), [turn_of(turn) for turn in page.turns], last))

    async def fork(self, request: Request, session_id: str) -> Response:
        body = await self._body(request, ForkRequest)
        tenant, parent = _key(request, session_id)
        at = -1 if body.at is None else body.at
        fork = ForkSession(tenant, parent, self.client.shards.sibling(parent), at, body.branch_id or "")
        child = await self.client.session(fork)
        await inherit_state(self.client, child)
        return _made(request, child)

    async def close(self, request: Request, session_id: str) -> Response:
        return json_response(session_of(await self.client.session(CloseSession(*_key(request, session_id)))))

    async def lock(self, request: Request, session_id: str) -> Response:
        body = await self._body(request, LockRequest)
        lock = LockSession(*_key(request, session_id), body.lease_s, body.wait_s, body.token or "")
        held = await self.client.session(lock)
        return json_response(Lock(session_id, held.token, held.lease_s))

    async def unlock(self, request: Request, session_id: str) -> Response:
        token = session_lock(Exchange.of(request).headers)
        await self.client.session(UnlockSession(*_key(request, session_id), token))
        return Response(status_code=204)

    async def delete(self, request: Request, session_id: str) -> Response:
        await self.client.session(DeleteSession(*_key(request, session_id)))
        return Response(status_code=204)

    async def _body(self, request: Request, kind: type[T]) -> T:
        headers, limits = Exchange.of(request).headers, self.client.config.security
        return convert(await read_json(headers, request.receive, limits) if has_body(headers) else {}, kind)


def _made(request: Request, info: SessionInfo) -> Response:
    Exchange.of(request).session_id = info.session_id
    location = f"/sessions/{quote(info.session_id, safe='')}"
    return json_response(session_of(info), [(b"location", location.encode())], status=201)


def _tenant(request: Request) -> str:
    return Exchange.of(request).tenant


def _key(request: Request, session_id: str) -> tuple[str, str]:
    return _tenant(request), safe_id(session_id, "session_id")
