"""One replica: its prompt, its stream, its models, its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest
from actor_doubles import PATIENCE_S, USAGE, HeldModel, hearing

from rayflow.actors.agent import Agent, system_prompt
from rayflow.chat import Message, ModelChunk, ModelParams, ModelReply, ModelRequest, ToolCallDelta, Usage
from rayflow.clock import SYSTEM_CLOCK, Clock, ManualClock, deadline
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import AgentConfig, StreamingConfig
from rayflow.errors import ConfigurationError, ModelError, ModelIncomplete, Unavailable
from rayflow.messages import AgentCall, AgentReply, FollowPart, Token
from rayflow.models.offline.model import OfflineModel
from rayflow.runtime.ports import ModelClient

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
    return Agent("agent/a/0", config, lambda _: model, streaming, fabric or InProcessFabric(), clock, 60.0)


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


async def test_nobody_rests_when_the_model_has_said_that_it_is_done() -> None:
    script: list[Step] = [ModelChunk(("a",), (), "stop"), ModelChunk(finish_reason="stop", usage=USAGE)]
    fabric = InProcessFabric()
    client = Heard(fabric)
    agent = made(ScriptedModel(*[script] * 8), fabric, StreamingConfig(flush_s=PATIENCE_S))
    calls = [msgspec.structs.replace(call(client="client/0"), run_id=f"run_{number}") for number in range(8)]
    async with asyncio.timeout(PATIENCE_S / 2):  # the next round is farther away
        replies = await asyncio.gather(*(ask(agent, each) for each in calls))
    assert {reply.text for reply in replies} == {"a"}
    assert await client.some(8) == ["a"] * 8


async def test_a_model_that_never_lets_us_wait_does_not_keep_others_out() -> None:
    fabric = InProcessFabric()
    Heard(fabric)
    asking = asyncio.create_task(ask(made(ScriptedModel(said(*["x"] * 50)), fabric), call(client="client/0")))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 50
    assert (await asking).text == "x" * 50


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


async def test_a_failing_model_is_called_once_for_a_call() -> None:
    model = HeldModel()
    model.errors = [ModelError("busy")]
    with pytest.raises(ModelError, match="busy"):
        await ask(made(model), call())
    assert len(model.requests) == 1


async def test_a_fallback_model_is_built_when_it_is_first_called_and_closed_at_the_end() -> None:
    models = {"offline": HeldModel("own"), "other": HeldModel("theirs")}
    built: list[str] = []

    def build(name: str) -> ModelClient:
        built.append(name)
        return models[name]

    agent = Agent("agent/a/0", AgentConfig(name="a"), build, EACH, InProcessFabric(), SYSTEM_CLOCK, 60.0)
    assert (await ask(agent, call())).text == "own"
    assert built == ["offline"]
    assert [(await ask(agent, call(model="other"))).text for _ in range(2)] == ["theirs", "theirs"]
    assert built == ["offline", "other"]
    await agent.stop()
    assert all(model.closed for model in models.values())


async def test_a_replica_that_cannot_build_its_own_model_does_not_start() -> None:
    def build(name: str) -> ModelClient:
        raise ConfigurationError(f"no key for {name}")

    with pytest.raises(ConfigurationError, match="no key for offline"):
        Agent("agent/a/0", AgentConfig(name="a"), build, EACH, InProcessFabric(), SYSTEM_CLOCK, 60.0)


async def test_an_error_says_whether_anything_of_the_answer_has_gone_out() -> None:
    fabric = InProcessFabric()
    client = Heard(fabric)
    model = ScriptedModel([ModelError("busy")], [ModelChunk(("half",)), ModelError("cut")])
    agent = made(model, fabric)
    for partial in ("", "half"):
        with pytest.raises(ModelError) as caught:
            await ask(agent, call(client="client/0"))
        assert caught.value.details.get("partial", "") == partial
    assert model.closed_streams == 2
    assert await client.some(1) == ["half"]


async def test_a_stream_without_a_finish_reason_is_incomplete() -> None:
    with pytest.raises(ModelIncomplete) as caught:
        await ask(made(ScriptedModel([ModelChunk(("half",))])), call(client="client/0"))
    assert caught.value.details["partial"] == "half"


async def test_a_model_gets_the_time_that_is_left_and_a_little_less() -> None:
    model = HeldModel()
    token = deadline.set(101.0)
    try:
        await ask(made(model, clock=ManualClock(100.0)), call())
    finally:
        deadline.reset(token)
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
    assert set(handlers) == {AgentCall, FollowPart}
