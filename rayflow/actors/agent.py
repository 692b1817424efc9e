"""One replica of an agent: turns a call into a model request, streams its tokens, answers with the whole part.

Tokens go straight to the client that waits for them; the router hears only the end. The first token leaves at once,
later ones are collected for a few milliseconds, because a frame per token would cost more than the token. A client that
does not keep up slows the reading of the model's answer down. A call of a replica is one call of a model: whether a
failed one is repeated, and by whom, the router decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from rayflow.actors.clients import Clients
from rayflow.actors.inflight import InFlight
from rayflow.actors.spending import cut_short
from rayflow.chat import FinishReason, FunctionCall, Message, ModelParams, ModelRequest, ToolCall, ToolCallDelta, Usage
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import AgentConfig, StreamingConfig
from rayflow.errors import ModelError, ModelIncomplete
from rayflow.messages import AgentCall, AgentReply, Payload, Spent, Token, TokenStream
from rayflow.policies.pacing import rest_s
from rayflow.runtime.ports import Fabric, Handler, ModelClient, Outlet

MAX_BEHIND_CHARS = 16 << 10
"""How much of an answer may wait for a client that reads slowly, until the model waits, too."""
MARGIN_S = 0.02
"""Each hop keeps this much of the deadline back, so that its own error arrives before the caller gives up."""


class Agent:
    """`clients` makes the client of an entry of `models`; they are closed with the actor. `limit_s`: longest call,
    where the caller sets no shorter deadline. Raises what making the agent's own client raises."""

    def __init__(
        self,
        address: str,
        config: AgentConfig,
        clients: Callable[[str], ModelClient],
        streaming: StreamingConfig,
        fabric: Fabric,
        clock: Clock,
        limit_s: float,
    ) -> None:
        self._config = config
        self._clients = Clients(clients, config.model)
        self._streaming = streaming
        self._fabric = fabric
        self._clock = clock
        self._limit_s = limit_s
        self._busy = InFlight(address)
        self._params = ModelParams(temperature=config.temperature, seed=config.seed, max_tokens=config.max_tokens)
        self._system = system_prompt(config)

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {AgentCall: self._call}

    async def start(self) -> None:
        """The model client connects on first use."""

    async def drain(self, budget_s: float) -> list[str]:
        return await self._busy.drain(budget_s)

    async def stop(self) -> None:
        await self._clients.close()

    async def _call(self, call: AgentCall) -> AgentReply:
        with self._busy.working(call.run_id):
            started = self._clock.now()
            left_s = remaining_s(started, self._limit_s) - MARGIN_S
            request = ModelRequest(self._messages(call), call.params.over(self._params), left_s)
            model = self._clients.get(call.model)
            answer = Answer(self, call) if call.client else None
            try:
                if answer is None:
                    return await self._complete(model, request, started)
                return await self._stream(model, request, answer, started)
            except BaseException as error:
                if call.account:
                    self._tell_spent(call, request, answer, error)
                if isinstance(error, ModelError) and answer and answer.sent and not error.details.get("partial"):
                    error.details["partial"] = answer.text  # whoever reads it knows that it cannot be asked again
                raise

    def _tell_spent(self, call: AgentCall, request: ModelRequest, answer: Answer | None, error: BaseException) -> None:
        """Who pays for the run wants to know what a call had used that brought no reply."""
        pieces, reported = (answer.pieces, answer.usage) if answer else (None, Usage())
        usage = cut_short(request.messages, pieces, reported, error)
        if usage is not None:
            self._fabric.tell(call.account, Spent(call.run_id, call.agent, usage))

    async def _complete(self, model: ModelClient, request: ModelRequest, started: float) -> AgentReply:
        reply = await model.complete(request)
        return AgentReply(
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            model=reply.model,
            duration_ms=(self._clock.now() - started) * 1000,
            tool_calls=reply.tool_calls,
            in_flight=len(self._busy),
        )

    async def _stream(self, model: ModelClient, request: ModelRequest, answer: Answer, started: float) -> AgentReply:
        stream = model.stream(request)
        try:
            async for chunk in stream:
                if chunk.pieces:
                    answer.add(chunk.pieces)
                for delta in chunk.tool_calls:
                    answer.add_tool_call(delta)
                answer.finish_reason = chunk.finish_reason or answer.finish_reason
                answer.usage = chunk.usage or answer.usage
                if answer.behind:
                    await answer.catch_up()
                pause_s = rest_s(len(self._busy), self._streaming.flush_s, self._clock.now())
                if pause_s and answer.finish_reason is None:
                    answer.flush()
                    await asyncio.sleep(pause_s)
        finally:
            await stream.aclose()
            answer.close()
        if answer.finish_reason is None:
            raise ModelIncomplete("the model's stream ended without a finish reason", partial=answer.text)
        return AgentReply(
            text=answer.text,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            model=answer.model,
            duration_ms=(self._clock.now() - started) * 1000,
            ttft_ms=(answer.first_at - started) * 1000 if answer.first_at is not None else None,
            tool_calls=answer.tool_calls(),
            last_seq=answer.last_seq,
            chunks=answer.sent,
            in_flight=len(self._busy),
        )

    def _messages(self, call: AgentCall) -> list[Message]:
        own = call.system_prompt or self._system
        system = "\n\n".join(filter(None, (own, call.instructions)))
        return [Message("system", system), *call.messages] if system else call.messages


class Answer:
    """A streamed answer while it grows, and what of it has already been sent. Whatever a client did not get of it, it
    gets with the result of the run."""

    def __init__(self, agent: Agent, call: AgentCall) -> None:
        self._fabric = agent._fabric
        self._clock = agent._clock
        self._streaming = agent._streaming
        self._call = call
        self.model = call.model or agent._config.model
        self._outlet: Outlet | None = None
        self._pieces: list[str] = []
        self._unsent: list[str] = []
        self._unsent_chars = 0
        self._timer: asyncio.TimerHandle | None = None
        self._deltas: dict[int, list[ToolCallDelta]] = {}
        self.finish_reason: FinishReason | None = None
        self.usage = Usage()
        self.first_at: float | None = None
        self.sent = 0

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def pieces(self) -> int:
        """How many have come from the model."""
        return len(self._pieces)

    @property
    def last_seq(self) -> int:
        return self._call.seq_start + (self.sent - 1) * self._call.seq_step if self.sent else 0

    def add(self, pieces: tuple[str, ...]) -> None:
        self._pieces += pieces
        self._unsent += pieces
        self._unsent_chars += sum(map(len, pieces))
        if self.first_at is None:
            self.first_at = self._clock.now()
            self.flush()
        elif self._unsent_chars >= self._streaming.max_chars:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._streaming.flush_s, self.flush)

    def add_tool_call(self, delta: ToolCallDelta) -> None:
        self._deltas.setdefault(delta.index, []).append(delta)

    def flush(self) -> None:
        """Send what there is, if the client keeps up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._unsent:
            return
        call = self._call
        if self._outlet is None:
            self._outlet = self._fabric.stream(call.client, TokenStream(call.run_id, call.agent, call.attempt))
        seq = call.seq_start + self.sent * call.seq_step
        if self._outlet.offer(Token(call.run_id, seq, call.agent, self._unsent)):
            self.sent += 1
        elif not self._outlet.lost:
            return
        self._unsent = []
        self._unsent_chars = 0

    @property
    def behind(self) -> bool:
        """Whether the client is so slow that it must be waited for."""
        return self._unsent_chars > MAX_BEHIND_CHARS

    async def catch_up(self) -> None:
        while self.behind and self._outlet is not None:
            await self._outlet.room()
            self.flush()

    def close(self) -> None:
        """The last tokens, and the end of their stream."""
        self.flush()
        if self._outlet is not None:
            self._outlet.close()

    def tool_calls(self) -> list[ToolCall]:
        return [
            ToolCall(
                id=next((d.id for d in deltas if d.id), f"call_{self._call.run_id[4:]}_{index}"),
                function=FunctionCall("".join(d.name for d in deltas), "".join(d.arguments for d in deltas)),
            )
            for index, deltas in sorted(self._deltas.items())
        ]


def system_prompt(config: AgentConfig) -> str:
    """An agent's instructions: who it is, what it wants, how it should go about it."""
    lines = [
        f"You are {config.role}." if config.role else "",
        f"Your goal: {config.goal}." if config.goal else "",
        config.system_prompt.strip(),
    ]
    return "\n".join(line for line in lines if line)
