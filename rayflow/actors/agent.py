"""One replica of an agent: turns a call into a model request, streams its tokens, answers with the whole part.

Tokens go straight to the client that waits for them (`Answer`); the router hears only the end. A call of a replica is
one call of a model: whether a failed one is repeated, and by whom, the router decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from rayflow.actors.answer import Answer
from rayflow.actors.clients import Clients
from rayflow.actors.inflight import InFlight
from rayflow.actors.rounds import Rounds
from rayflow.actors.spending import cut_short
from rayflow.chat import Message, ModelParams, ModelRequest, Usage
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import AgentConfig, StreamingConfig
from rayflow.context import context, subject
from rayflow.errors import ModelError, ModelIncomplete
from rayflow.messages import AgentCall, AgentReply, FollowPart, Payload, Spent
from rayflow.runtime.ports import Fabric, Handler, ModelClient
from rayflow.tracing import call_span, child

MARGIN_S = 0.02
"""Each hop keeps this much of the deadline back, so that its own error arrives before the caller gives up."""


class Agent:
    """`clients` makes the client of an entry of `models`; they are closed with the actor. `limit_s`: longest call,
    where the caller sets no shorter deadline. `tracing`: models are told the span of the call. Raises what making the
    agent's own client raises."""

    def __init__(
        self,
        address: str,
        config: AgentConfig,
        clients: Callable[[str], ModelClient],
        streaming: StreamingConfig,
        fabric: Fabric,
        clock: Clock,
        limit_s: float,
        tracing: bool = False,
    ) -> None:
        self._config = config
        self._clients = Clients(clients, config.model)
        self._streaming = streaming
        self._fabric = fabric
        self._clock = clock
        self._limit_s = limit_s
        self._address = address
        self._tracing = tracing
        self._busy = InFlight(address)
        self._rounds = Rounds(streaming.flush_s, clock)
        self._answers: dict[tuple[str, str], Answer] = {}
        """Those that are being streamed, by run and agent."""
        self._params = ModelParams(temperature=config.temperature, seed=config.seed, max_tokens=config.max_tokens)
        self._system = system_prompt(config)

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {AgentCall: self._call, FollowPart: self._follow}

    async def start(self) -> None:
        """The model client connects on first use."""

    async def drain(self, budget_s: float) -> list[str]:
        return await self._busy.drain(budget_s)

    async def stop(self) -> None:
        await self._clients.close()

    async def _call(self, call: AgentCall) -> AgentReply:
        with self._busy.working(call.run_id):
            subject.set(call)
            if self._tracing:
                self._trace(call)
            started = self._clock.now()
            left_s = remaining_s(started, self._limit_s) - MARGIN_S
            request = ModelRequest(self._messages(call), call.params.over(self._params), left_s)
            model = self._clients.get(call.model)
            model_name = call.model or self._config.model
            answer = Answer(call, model_name, self._streaming, self._fabric, self._clock) if call.client else None
            try:
                if answer is None:
                    return await self._complete(model, request, started)
                return await self._stream(model, request, answer, started)
            except BaseException as error:
                self._account_for(call, request, answer, error)
                raise

    def _trace(self, call: AgentCall) -> None:
        """From here on it is the call of the model that calls."""
        ambient = context.get()
        if ambient is not None and ambient.traceparent:
            span = call_span(call.run_id, call.agent, call.attempt, self._address)
            context.set(msgspec.structs.replace(ambient, traceparent=child(ambient.traceparent, span)))

    def _follow(self, message: FollowPart) -> None:
        if answer := self._answers.get((message.run_id, message.agent)):
            answer.follow(message.by)

    def _account_for(self, call: AgentCall, request: ModelRequest, answer: Answer | None, error: BaseException) -> None:
        """Say what a call had used and said that brought no reply: to who pays for the run, and in the error."""
        pieces, reported = (answer.pieces, answer.usage) if answer else (None, Usage())
        usage = cut_short(request.messages, pieces, reported, error)
        if usage is not None and call.account:
            text = answer.text if answer else ""
            self._fabric.tell(call.account, Spent(call.run_id, call.agent, usage, text, call.model))
        if isinstance(error, ModelError):
            if usage is not None:
                error.details["used"] = [usage.prompt_tokens, usage.completion_tokens]
            if answer and answer.sent and not error.details.get("partial"):
                error.details["partial"] = answer.text  # whoever reads it knows that it cannot be asked again

    async def _complete(self, model: ModelClient, request: ModelRequest, started: float) -> AgentReply:
        reply = await model.complete(request)
        return AgentReply(
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            model=reply.model,
            response_id=reply.response_id,
            duration_ms=(self._clock.now() - started) * 1000,
            tool_calls=reply.tool_calls,
            in_flight=len(self._busy),
        )

    async def _stream(self, model: ModelClient, request: ModelRequest, answer: Answer, started: float) -> AgentReply:
        stream = model.stream(request)
        self._answers[answer.key] = answer
        try:
            async for chunk in stream:
                if chunk.pieces:
                    answer.add(chunk.pieces)
                for delta in chunk.tool_calls:
                    answer.add_tool_call(delta)
                answer.finish_reason = chunk.finish_reason or answer.finish_reason
                answer.usage = chunk.usage or answer.usage
                if chunk.model:
                    answer.model, answer.response_id = chunk.model, chunk.response_id
                if answer.behind:
                    await answer.catch_up()
                if answer.finish_reason is None:
                    await self._rest(answer)
        finally:
            del self._answers[answer.key]
            answer.close()
            await stream.aclose()
        if answer.finish_reason is None:
            raise ModelIncomplete("the model's stream ended without a finish reason", partial=answer.text)
        return AgentReply(
            text=answer.text,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            model=answer.model,
            response_id=answer.response_id,
            duration_ms=(self._clock.now() - started) * 1000,
            ttft_ms=(answer.first_at - started) * 1000 if answer.first_at is not None else None,
            tool_calls=answer.tool_calls(),
            last_seq=answer.last_seq,
            chunks=answer.sent,
            cuts=answer.cuts(),
            in_flight=len(self._busy),
        )

    async def _rest(self, answer: Answer) -> None:
        """Until the stream is read again."""
        next_round = self._rounds.after(len(self._busy))
        if next_round is None:
            await asyncio.sleep(0)  # a model that writes faster than we read must not keep everybody else out
        else:
            answer.flush()
            await next_round

    def _messages(self, call: AgentCall) -> list[Message]:
        own = call.system_prompt or self._system
        told, said = "", call.messages
        if said and said[0].role == "system":  # of the session; many models take one system message only, and first
            told, said = said[0].text, said[1:]
        system = "\n\n".join(filter(None, (own, call.instructions, told)))
        return [Message("system", system), *said] if system else said


def system_prompt(config: AgentConfig) -> str:
    """An agent's instructions: who it is, what it wants, how it should go about it."""
    lines = [
        f"You are {config.role}." if config.role else "",
        f"Your goal: {config.goal}." if config.goal else "",
        config.system_prompt.strip(),
    ]
    return "\n".join(line for line in lines if line)
