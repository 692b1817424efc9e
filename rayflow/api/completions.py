"""POST /v1/chat/completions: OpenAI's route over the workflow."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.body import read_json
from rayflow.api.cache_use import cache_use
from rayflow.api.catalogue import AUTO, Catalogue
from rayflow.api.completion_answer import ChunkEncoder, completion
from rayflow.api.completion_request import ChatCompletionRequest
from rayflow.api.decode import convert
from rayflow.api.dialogue import check_last_user_message, split
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id, session_lock, timeout_s
from rayflow.api.idempotency import run_of
from rayflow.api.priority import priority_of
from rayflow.api.responses import Encoded
from rayflow.api.runs import Runs
from rayflow.api.turn_options import turn_options
from rayflow.messages import RunRequest


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    runs: Runs
    catalogue: Catalogue

    async def create(self, request: Request) -> Response:
        client, exchange = self.runs.client, Exchange.of(request)
        raw = await read_json(exchange.headers, request.receive, client.config.security)
        body = convert(raw, ChatCompletionRequest)
        body.check()
        agent = self.catalogue.agent(body.model)
        metadata = dict(body.metadata or ())
        session_id, new_session, repeatable = run_of(
            exchange, **{"metadata.session_id": metadata.pop("session_id", None)}
        )
        prompt, messages = split(body.messages, raw["messages"], new_session)
        check_last_user_message(body.messages, client.config.processing)
        priority = priority_of(exchange, metadata, client.config.priority, body.service_tier)
        strategy, on_disconnect = metadata.get("multitask_strategy"), metadata.get("on_disconnect")
        options = turn_options(exchange, client.config.processing, strategy, on_disconnect, within="metadata.")
        run = RunRequest(
            run_id=exchange.id,
            session_id=session_id,
            messages=messages,
            params=body.params(),
            tenant=exchange.tenant,
            user_id=safe_id(body.user, "user") if body.user is not None else "",
            agent=agent,
            client=client.address if body.stream else "",
            stream=bool(body.stream),
            new_session=new_session,
            repeatable=repeatable,
            joins=options.joins,
            outlives=options.outlives,
            multitask=options.multitask,
            lock=session_lock(exchange.headers),
            cache=cache_use(exchange.headers),
            channel="chat",
            instructions=prompt,
            metadata=metadata,
            service_class=priority.service_class,
            user_tier=priority.user_tier,
            urgency=priority.urgency,
        )
        timeout = timeout_s(exchange.headers)
        model = self.catalogue.workflow if body.model == AUTO and not agent else body.model
        created_s = client.now_us() // 1_000_000
        if body.stream:
            encoder = ChunkEncoder(run.run_id, model, created_s, body.include_usage)
            return self.runs.stream(run, timeout, encoder)
        result = await self.runs.complete(run, timeout, request)
        return Encoded(completion(result, model, created_s))
