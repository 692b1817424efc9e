"""One replica: its prompt, its stream, its retries, its deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, USAGE, HeldModel, hearing

from rayflow.actors.agent import Agent, system_prompt
from rayflow.chat import Message, ModelChunk, ModelParams, ModelReply, ModelRequest, ToolCallDelta, Usage
from rayflow.clock import SYSTEM_CLOCK, Clock, ManualClock, deadline
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import AgentConfig, Retries, StreamingConfig
from rayflow.errors import ModelError, ModelIncomplete, ModelRejected, Unavailable
from rayflow.messages import AgentCall, AgentReply, Token
from rayflow.models.offline.model import OfflineModel
from rayflow.policies.budget import FLOOR_PER_S, WINDOW_S
from rayflow.runtime.ports import ModelClient

RETRIES = Retries(max_attempts=3, base_delay_s=0.0, max_delay_s=0.0)
EACH = StreamingConfig(flush_s=0.0, max_chars=1)

Step = ModelChunk | Exception | asyncio.Event


class ScriptedModel:
    """Streams one script for each call: an event in it is waited for, an exception raised."""

    def __init__(self, *scripts: list[Step]) -> None:
        self.scripts = list(scripts)
        self.calls = 0
        self.closed_streams = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        raise AssertionError("not streamed")

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        self.calls += 1
        try:
            for step in self.scripts.pop(0):
                match step:
                    case asyncio.Event():
                        await step.wait()
                    case Exception():
                        raise step
                    case _:
                        yield step
        finally:
            self.closed_streams += 1

    async def close(self) -> None: ...


class Heard:
    """A client: the tokens it was told, and a wait for so many of them."""

    def __init__(self, fabric: InProcessFabric) -> None:
        self.tokens: list[Token] = []
        self._came = asyncio.Event()
        fabric.bind("client/0", {}, hearing(self._take))

    def _take(self, token: Token) -> None:
        self.tokens.append(token)
        self._came.set()

    async def some(self, count: int) -> list[str]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.tokens) < count:
                self._came.clear()
                await self._came.wait()
        return [token.text for token in self.tokens]


def made(
    model: ModelClient,
    fabric: InProcessFabric | None = None,
    streaming: StreamingConfig = EACH,
    clock: Clock = SYSTEM_CLOCK,
    **agent: Any,
) -> Agent:
    config = AgentConfig.model_validate({"name": "a", **agent})
    return Agent(
        "agent/a/0", config, model, RETRIES, streaming, fabric or InProcessFabric(), clock, random.Random(1), 60.0
    )


def call(text: str = "hello", **more: Any) -> AgentCall:
    return AgentCall("run_1", "a", [Message("user", text)], **more)


async def ask(agent: Agent, message: AgentCall) -> AgentReply:
    return await agent._call(message)


def said(*texts: str) -> list[Step]:
    return [*(ModelChunk((text,)) for text in texts), ModelChunk(finish_reason="stop", usage=USAGE)]


def test_the_system_prompt_says_who_the_agent_is_and_what_it_wants() -> None:
    agent = AgentConfig(name="a", role="a clerk", goal="be kind", system_prompt=" Be brief. ")
    assert system_prompt(agent) == "You are a clerk.\nYour goal: be kind.\nBe brief."
    assert system_prompt(AgentConfig(name="a")) == ""


@pytest.mark.parametrize(
    ("more", "system"),
    [
        ({}, "own"),
        ({"instructions": "be formal"}, "own\n\nbe formal"),
        ({"system_prompt": "theirs"}, "theirs"),
        ({"system_prompt": "theirs", "instructions": "be formal"}, "theirs\n\nbe formal"),
    ],
)
async def test_instructions_are_added_and_a_clients_own_prompt_replaces(more: dict[str, str], system: str) -> None:
    model = HeldModel()
    await ask(made(model, system_prompt="own"), call(**more))
    assert model.requests[0].messages == [Message("system", system), Message("user", "hello")]


async def test_without_any_instructions_there_is_no_system_message() -> None:
    model = HeldModel()
    await ask(made(model), call())
    assert model.requests[0].messages == [Message("user", "hello")]


async def test_a_requests_options_go_before_the_agents() -> None:
    model = HeldModel()
    await ask(made(model, temperature=0.1, seed=3), call(params=ModelParams(temperature=0.9)))
    assert model.requests[0].params == ModelParams(temperature=0.9, seed=3)


async def test_the_offline_model_gives_the_same_answer_streamed_and_whole() -> None:
    fabric = InProcessFabric()
    client = Heard(fabric)
    agent = made(OfflineModel(), fabric, system_prompt="Refunds take five days. Orders ship on Monday.")
    whole = await ask(agent, call("How long do refunds take?"))
    streamed = await ask(agent, call("How long do refunds take?", client="client/0"))
    assert "five days" in whole.text
    assert (streamed.text, streamed.usage, streamed.finish_reason) == (whole.text, whole.usage, whole.finish_reason)
    assert "".join(await client.some(streamed.chunks)) == whole.text


async def test_tokens_are_numbered_in_the_steps_the_call_asks_for() -> None:
    fabric = InProcessFabric()
    client = Heard(fabric)
    reply = await ask(
        made(ScriptedModel(said("a", "b", "c")), fabric), call(client="client/0", seq_start=5, seq_step=3)
    )
    await client.some(3)
    assert [token.seq for token in client.tokens] == [5, 8, 11]
    assert (reply.last_seq, reply.chunks, reply.text) == (11, 3, "abc")
    assert reply.ttft_ms is not None


async def test_a_part_without_tokens_used_no_number() -> None:
    reply = await ask(made(ScriptedModel(said())), call(client="client/0", seq_start=5))
    assert (reply.last_seq, reply.chunks, reply.text, reply.ttft_ms) == (0, 0, "", None)


async def test_the_first_token_leaves_at_once_and_later_ones_together() -> None:
    fabric = InProcessFabric()
    client, first, rest = Heard(fabric), asyncio.Event(), asyncio.Event()
    script: list[Step] = [ModelChunk(("a",)), first, ModelChunk(("b",)), ModelChunk(("c",)), rest, *said("d")]
    agent = made(ScriptedModel(script), fabric, StreamingConfig(flush_s=0.01))
    asking = asyncio.create_task(ask(agent, call(client="client/0")))
    assert await client.some(1) == ["a"]
    first.set()
    assert await client.some(2) == ["a", "bc"]
    rest.set()
    await asking
    assert await client.some(3) == ["a", "bc", "d"]


async def test_collected_text_leaves_when_it_is_long_enough() -> None:
    fabric = InProcessFabric()
    client, never = Heard(fabric), asyncio.Event()
    script: list[Step] = [ModelChunk(("a",)), ModelChunk(("bb",)), ModelChunk(("cc",)), never]
    agent = made(ScriptedModel(script), fabric, StreamingConfig(flush_s=5.0, max_chars=4))
    asking = asyncio.create_task(ask(agent, call(client="client/0")))
    assert await client.some(2) == ["a", "bbcc"]
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_pieces_of_tool_calls_are_put_together() -> None:
    deltas = [
        ToolCallDelta(1, "call_b", "second", "{}"),
        ToolCallDelta(0, "", "fir"),
        ToolCallDelta(0, "", "st", '{"x":'),
        ToolCallDelta(0, "", "", " 1}"),
    ]
    script: list[Step] = [
        *(ModelChunk(tool_calls=(delta,)) for delta in deltas),
        ModelChunk(finish_reason="tool_calls"),
    ]
    reply = await ask(made(ScriptedModel(script)), call(client="client/0"))
    assert [(c.id, c.function.name, c.function.arguments) for c in reply.tool_calls] == [
        ("call_1_0", "first", '{"x": 1}'),
        ("call_b", "second", "{}"),
    ]
    assert (reply.finish_reason, reply.usage) == ("tool_calls", Usage())


async def test_a_failing_model_is_called_again_and_the_failure_is_not_seen() -> None:
    model = HeldModel()
    model.errors = [ModelError("busy"), ModelError("busy")]
    assert (await ask(made(model), call())).text == "done"
    assert len(model.requests) == 3


async def test_a_model_that_keeps_failing_is_called_so_often_and_no_more() -> None:
    model = HeldModel()
    model.errors = [ModelError(f"busy {i}") for i in range(9)]
    with pytest.raises(ModelError, match="busy 2"):
        await ask(made(model), call())


async def test_calls_that_all_fail_are_tried_again_within_a_budget_only() -> None:
    model = HeldModel()
    calls = 300
    model.errors = [ModelError("down")] * (3 * calls)
    agent = made(model)
    for _ in range(calls):
        with pytest.raises(ModelError):
            await ask(agent, call())
    allowed = 1.2 * calls + FLOOR_PER_S * WINDOW_S
    assert calls < len(model.requests) <= allowed


async def test_a_refusal_is_not_tried_again() -> None:
    model = HeldModel()
    model.errors = [ModelRejected("bad key")]
    with pytest.raises(ModelRejected):
        await ask(made(model), call())
    assert len(model.requests) == 1


async def test_a_stream_is_tried_again_before_its_first_token_and_never_after() -> None:
    fabric = InProcessFabric()
    client = Heard(fabric)
    model = ScriptedModel([ModelError("busy")], said("ok"))
    assert (await ask(made(model, fabric), call(client="client/0"))).text == "ok"
    model = ScriptedModel([ModelChunk(("half",)), ModelError("cut")], said("again"))
    with pytest.raises(ModelError, match="cut"):
        await ask(made(model, fabric), call(client="client/0"))
    assert (model.calls, model.closed_streams) == (1, 1)
    assert await client.some(2) == ["ok", "half"]


async def test_a_stream_without_a_finish_reason_is_incomplete() -> None:
    with pytest.raises(ModelIncomplete) as caught:
        await ask(made(ScriptedModel([ModelChunk(("half",))])), call(client="client/0"))
    assert caught.value.details["partial"] == "half"


async def test_no_retry_is_begun_that_the_deadline_would_cut() -> None:
    clock = ManualClock(100.0)

    class Slow(HeldModel):
        async def complete(self, request: ModelRequest) -> ModelReply:
            clock.advance(0.9)
            return await super().complete(request)

    model = Slow()
    model.errors = [ModelError("busy", retry_after_s=0.5), ModelError("busy")]
    token = deadline.set(101.0)
    try:
        with pytest.raises(ModelError):
            await ask(made(model, clock=clock), call())
    finally:
        deadline.reset(token)
    assert len(model.requests) == 1
    assert model.requests[0].deadline_s == pytest.approx(0.98)


async def test_a_cancelled_call_closes_its_stream() -> None:
    fabric = InProcessFabric()
    client = Heard(fabric)
    model = ScriptedModel([ModelChunk(("a",)), asyncio.Event()])
    asking = asyncio.create_task(ask(made(model, fabric), call(client="client/0")))
    await client.some(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert model.closed_streams == 1


async def test_a_draining_replica_finishes_its_calls_and_closes_its_model() -> None:
    model = HeldModel(held=True)
    agent = made(model)
    asking = asyncio.create_task(ask(agent, call()))
    await model.busy()
    assert await agent.drain(0.01) == ["run_1"]
    with pytest.raises(Unavailable):
        await ask(agent, call())
    model.released.set()
    await asking
    assert await agent.drain(PATIENCE_S) == []
    await agent.stop()
    assert model.closed


def test_every_message_of_a_replica_has_a_handler() -> None:
    handlers: dict[type, Callable[..., Any]] = dict(made(HeldModel()).handlers)
    assert set(handlers) == {AgentCall}
