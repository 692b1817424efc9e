"""Sessions over HTTP: make, look at, read back, delete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.body import has_body, read_json
from rayflow.api.decode import convert
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id
from rayflow.api.responses import json_response
from rayflow.app.client import SystemClient
from rayflow.chat import ToolCall
from rayflow.ids import new_session_id
from rayflow.messages import CreateSession, DeleteSession, GetHistory, GetSession, SessionInfo, Turn

MAX_PAGE = 1000


class SessionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a new session is given; an id is made where none is."""

    session_id: str | None = None
    user_id: str | None = None
    metadata: dict[str, Any] | None = None


class Session(msgspec.Struct, frozen=True):
    """A conversation. Times are UTC (RFC 3339); `turns` counts the messages kept."""

    session_id: str
    user_id: str
    created_at: str
    updated_at: str
    turns: int
    metadata: dict[str, Any]


class SessionTurn(msgspec.Struct, frozen=True):
    """One message of a conversation. `seq` counts from 1."""

    seq: int
    role: str
    content: str | list[dict[str, Any]] | None
    tool_calls: list[ToolCall] | None
    tool_call_id: str | None
    run_id: str
    agent: str
    status: str
    created_at: str


class SessionHistory(msgspec.Struct, frozen=True):
    """A page of turns, oldest first. `next_after`: what to give as `after` for the next page; null at the end."""

    session: Session
    turns: list[SessionTurn]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Sessions:
    client: SystemClient

    async def create(self, request: Request) -> Response:
        exchange = Exchange.of(request)
        limits = self.client.config.security
        raw = await read_json(exchange.headers, request.receive, limits) if has_body(exchange.headers) else {}
        body = convert(raw, SessionRequest)
        session_id = new_session_id() if body.session_id is None else safe_id(body.session_id, "session_id")
        user_id = "" if body.user_id is None else safe_id(body.user_id, "user_id")
        info = await self.client.session(CreateSession(exchange.tenant, session_id, user_id, body.metadata or {}))
        exchange.session_id = session_id
        return json_response(
            _session(info), [(b"location", f"/sessions/{quote(session_id, safe='')}".encode())], status=201
        )

    async def get(self, request: Request, session_id: str) -> Response:
        info = await self.client.session(GetSession(_tenant(request), safe_id(session_id, "session_id")))
        return json_response(_session(info))

    async def history(
        self,
        request: Request,
        session_id: str,
        after: Annotated[int, Query(ge=0, description="Leave out turns up to this `seq`.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most turns to return.")] = 100,
    ) -> Response:
        ask = GetHistory(_tenant(request), safe_id(session_id, "session_id"), after, limit)
        page = await self.client.session(ask)
        last = page.turns[-1].seq if len(page.turns) == limit else None
        return json_response(SessionHistory(_session(page.info), [_turn(turn) for turn in page.turns], last))

    async def delete(self, request: Request, session_id: str) -> Response:
        await self.client.session(DeleteSession(_tenant(request), safe_id(session_id, "session_id")))
        return Response(status_code=204)


def _tenant(request: Request) -> str:
    """Whose sessions this request may see. Those of others do not exist for it."""
    return Exchange.of(request).tenant


def _session(info: SessionInfo) -> Session:
    return Session(
        session_id=info.session_id,
        user_id=info.user_id,
        created_at=_rfc3339(info.created_us),
        updated_at=_rfc3339(info.updated_us),
        turns=info.turns,
        metadata=info.metadata,
    )


def _turn(turn: Turn) -> SessionTurn:
    return SessionTurn(
        seq=turn.seq,
        role=turn.message.role,
        content=turn.message.content,
        tool_calls=turn.message.tool_calls,
        tool_call_id=turn.message.tool_call_id,
        run_id=turn.run_id,
        agent=turn.agent,
        status=turn.status,
        created_at=_rfc3339(turn.created_us),
    )


def _rfc3339(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
