"""Runs by their id, on any ingress process: stop one, or read its events again."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from rayflow.api import sse
from rayflow.api.body import read_body
from rayflow.api.chat_answer import ChatEncoder
from rayflow.api.decode import fault
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id, session_header
from rayflow.api.responses import json_response
from rayflow.api.runs import Encoder, Runs
from rayflow.errors import WorkflowError
from rayflow.events import Event
from rayflow.messages import RunResult, Token

MAX_ID_DIGITS = 18


class RunStatus(msgspec.Struct, frozen=True):
    """What became of a run."""

    run_id: str
    status: str


class Resumed:
    """An encoder for a client that has the events up to number `after` already."""

    def __init__(self, encoder: Encoder, after: int) -> None:
        self._encoder = encoder
        self._after = after

    def token(self, token: Token) -> bytes:
        return sse.since(self._after, self._encoder.token(token))

    def progress(self, event: Event) -> bytes:
        return sse.since(self._after, self._encoder.progress(event))

    def result(self, result: RunResult) -> bytes:
        return sse.since(self._after, self._encoder.result(result))

    def error(self, error: WorkflowError) -> bytes:
        return self._encoder.error(error)


@dataclass(frozen=True, slots=True)
class RunRoutes:
    """`workflow`: its name."""

    runs: Runs
    workflow: str

    async def cancel(self, request: Request, run_id: str) -> Response:
        exchange = Exchange.of(request)
        session_id = session_header(exchange.headers) or ""
        run_id = safe_id(run_id, "run_id")
        await self.runs.client.cancel(run_id, "cancelled by a client", exchange.tenant, session_id)
        return json_response(RunStatus(run_id, "cancelled"))

    async def events(self, request: Request, run_id: str) -> Response:
        exchange = Exchange.of(request)
        session_id = session_header(exchange.headers) or ""
        run_id = safe_id(run_id, "run_id")
        # There is none, mostly, but a server says so; what `receive` gives after it is the disconnect.
        await read_body(exchange.headers, request.receive, self.runs.client.config.security.max_body_bytes)
        encoder: Encoder = ChatEncoder(self.workflow, run_id)
        if after := _last_event_id(exchange):
            encoder = Resumed(encoder, after)
        return self.runs.follow(run_id, exchange.tenant, session_id, encoder)


def _last_event_id(exchange: Exchange) -> int:
    """The number of the last event that the client has; 0: none."""
    raw = exchange.headers.get(b"last-event-id", b"")
    if raw and not (raw.isdigit() and len(raw) <= MAX_ID_DIGITS):
        raise fault("last-event-id", "must be the id of an event of this run, a number")
    return int(raw or 0)
