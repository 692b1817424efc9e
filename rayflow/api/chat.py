"""POST /chat: the native route, JSON or events by `stream`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.body import read_json
from rayflow.api.cache_use import cache_use
from rayflow.api.catalogue import Catalogue
from rayflow.api.chat_answer import ChatEncoder, chat_answer
from rayflow.api.chat_request import ChatRequest
from rayflow.api.decode import convert
from rayflow.api.dialogue import check_length
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id, session_lock, timeout_s
from rayflow.api.idempotency import run_of
from rayflow.api.priority import priority_of
from rayflow.api.responses import json_response
from rayflow.api.runs import Runs
from rayflow.api.turn_options import turn_options
from rayflow.chat import Message
from rayflow.errors import NotFound
from rayflow.messages import RunRequest


@dataclass(frozen=True, slots=True)
class Chat:
    runs: Runs
    catalogue: Catalogue

    async def send(self, request: Request) -> Response:
        client, exchange = self.runs.client, Exchange.of(request)
        raw = await read_json(exchange.headers, request.receive, client.config.security)
        body = convert(raw, ChatRequest)
        run = self.run(exchange, body, streamed=bool(body.stream))
        timeout = timeout_s(exchange.headers)
        if body.stream:
            return self.runs.stream(run, timeout, ChatEncoder(self.catalogue.workflow, exchange.id))
        result = await self.runs.complete(run, timeout, request)
        return json_response(chat_answer(result, self.catalogue.workflow))

    def run(self, exchange: Exchange, body: ChatRequest, streamed: bool) -> RunRequest:
        """The run that a message asks for. Raises `ValidationError`, `NotFound`."""
        client = self.runs.client
        body.check()
        check_length(body.message, client.config.processing, "message")
        if body.agent is not None and body.agent not in self.catalogue.agents:
            known = ", ".join(sorted(self.catalogue.agents))
            raise NotFound(f"there is no agent {body.agent[:64]!r}; there are {known}", kind="agent", param="agent")
        session_id, new_session, repeatable = run_of(
            exchange, conversation_id=body.conversation_id, session_id=body.session_id
        )
        priority = priority_of(exchange, body.metadata or {}, client.config.priority)
        options = turn_options(exchange, client.config.processing, body.multitask_strategy, body.on_disconnect)
        return RunRequest(
            run_id=exchange.id,
            session_id=session_id,
            messages=[Message("user", body.message)],
            params=body.params(),
            tenant=exchange.tenant,
            user_id=safe_id(body.user_id, "user_id") if body.user_id is not None else "",
            agent=body.agent or "",
            client=client.address if streamed else "",
            stream=streamed,
            progress=streamed,
            new_session=new_session,
            repeatable=repeatable,
            joins=options.joins,
            outlives=options.outlives,
            multitask=options.multitask,
            lock=session_lock(exchange.headers),
            cache=cache_use(exchange.headers, body.cache),
            channel="native",
            system_prompt=body.system_prompt_override or "",
            metadata=body.metadata or {},
            service_class=priority.service_class,
            user_tier=priority.user_tier,
            urgency=priority.urgency,
        )
