"""What the log learns of a run: each fact once, each call of a model once, and the cost of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
from actor_doubles import HeldModel, bind_agent, config, settle, team

from rayflow.actors.side_calls import SideCalls, under_way
from rayflow.actors.work import Work
from rayflow.chat import FunctionCall, Message, ModelChunk, ModelParams, ModelReply, ModelRequest, ToolCall, Usage
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import WorkflowConfig
from rayflow.context import Context, context
from rayflow.errors import ModelError
from rayflow.events import EVENTS, Event
from rayflow.messages import RunRequest
from rayflow.runtime.run import Run

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ONCE = {"max_attempts": 1}
CALM = {"breaker": {"enabled": False}}
PRICED = [
    {"name": "large", "price_prompt": 1_000_000.0, "price_completion": 100_000.0, "retries": ONCE},
    {"name": "small", "price_prompt": 1_000.0, "retries": ONCE},
]
ANSWERED = 3 * 1.0 + 2 * 0.1
"""What an answer of a `HeldModel` costs at the prices of `large`."""


def one(attempts: int = 1, **sections: Any) -> WorkflowConfig:
    retries = {"strategy": "simple", "max_attempts": attempts}
    return config({"name": "a", "model": "large"}, models=[{**PRICED[0], "retries": retries}], **sections)


def calls(trail: list[Event]) -> list[Event]:
    """The rule of the view `model_calls`."""
    return [e for e in trail if e.kind == "model.finished" or (e.kind == "agent.finished" and e.model)]


def only(trail: list[Event], kind: str) -> Event:
    (event,) = [event for event in trail if event.kind == kind]
    return event


async def test_a_plain_run_is_seven_events_and_one_of_them_tells_of_the_call() -> None:
    async with team(one()) as t:
        result = await t.run(agent="a", user_id="u", service_class="tool")
        trail = await t.trail(result.run_id)
        assert [event.kind for event in trail] == [
            "run.started", "turn.committed", "run.routed", "agent.started", "agent.finished", "turn.committed",
            "run.finished",
        ]  # fmt: skip
        assert {event.kind for event in trail} <= EVENTS.keys()
        assert {(event.priority, event.tenant, event.user_id, event.trace_id) for event in trail} == {
            ("tool", "t", "u", "")
        }
        (call,) = calls(trail)
        assert (call.provider, call.model, call.data["entry"]) == ("offline", "held", "large")
        assert (call.status, call.finish_reason, call.attempt) == ("ok", "stop", 1)
        assert (call.prompt_tokens, call.completion_tokens, call.cached_tokens) == (3, 2, None)
        assert call.tokens_per_s == pytest.approx(2 / call.duration_ms * 1000)  # type: ignore[operator]
        assert call.cost_usd == pytest.approx(ANSWERED)
        assert trail[-1].cost_usd == call.cost_usd
        assert {event.content for event in trail} == {""}


async def test_what_the_endpoint_says_of_its_answer_is_told() -> None:
    async with team(one()) as t:
        t.models["a"] = Talkative()
        bind_agent(t, "a", 1)
        t.fabric.unbind("agent/a/0")
        await settle()
        trail = await t.trail((await t.run(agent="a")).run_id)
        (call,) = calls(trail)
        assert (call.cached_tokens, call.reasoning_tokens, call.data["response_id"]) == (2, 1, "resp_1")
        assert trail[-1].cached_tokens == 2
        tool = only(trail, "tool.called")
        assert (tool.agent, tool.data, tool.content) == ("a", {"tool": "look", "call_id": "call_1"}, "")


async def test_every_call_is_told_once_and_the_run_costs_what_all_of_them_cost() -> None:
    async with team(one(3, resilience=CALM)) as t:
        t.models["a"].errors = [ModelError("bob@x.de is down"), ModelError("busy")]
        result = await t.run(agent="a")
        trail = await t.trail(result.run_id)
        assert [(c.kind, c.status, c.error, c.attempt) for c in calls(trail)] == [
            ("model.finished", "error", "model-failed", 1),
            ("model.finished", "error", "model-failed", 2),
            ("agent.finished", "ok", "", 3),
        ]
        failed = calls(trail)[0]
        assert (failed.model, failed.provider, failed.replica) == ("large", "offline", "agent/a/0")
        assert failed.error_message == "[email] is down"
        assert (failed.prompt_tokens, failed.cost_usd) == (0, 0.0), "the endpoint refused before it began"
        assert trail[-1].cost_usd == result.cost_usd == pytest.approx(ANSWERED)


async def test_what_a_call_had_used_that_broke_off_is_part_of_the_cost() -> None:
    async with team(one()) as t:
        t.models["a"] = Breaking()
        t.fabric.unbind("agent/a/0")
        bind_agent(t, "a", 1)
        with pytest.raises(ModelError) as caught:
            await t.run(agent="a", run_id="run_1", stream=True, client="client/0")
        assert "used" not in caught.value.details
        trail = await t.trail("run_1")
        (call,) = calls(trail)
        assert (call.status, call.completion_tokens) == ("error", 2)
        assert call.cost_usd == pytest.approx(2 * 1.0 + 2 * 0.1), "two tokens of the prompt, by their length"
        assert only(trail, "agent.finished").model == ""
        assert trail[-1].cost_usd == call.cost_usd


async def test_a_model_that_stands_in_is_paid_at_its_own_price() -> None:
    agent = {"name": "a", "model": "large", "fallback_models": ["small"]}
    async with team(config(agent, models=PRICED), model=lambda name: HeldModel(f"from {name}")) as t:
        t.models["small"] = HeldModel("from small")
        t.models["a"].errors = [ModelError("down")]
        trail = await t.trail((await t.run(agent="a")).run_id)
        assert [(call.status, call.data.get("entry", call.model)) for call in calls(trail)] == [
            ("error", "large"),
            ("ok", "small"),
        ]
        assert trail[-1].cost_usd == pytest.approx(3 * 0.001)


async def test_of_a_cancelled_run_the_call_is_told_that_was_cut() -> None:
    async with team(one(), model=lambda _: HeldModel(held=True)) as t:
        running = t.start(agent="a", run_id="run_1")
        await t.models["a"].busy()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await settle()
        trail = await t.trail("run_1")
        (call,) = calls(trail)
        assert (call.kind, call.status, call.model, call.prompt_tokens) == (
            "agent.finished",
            "cancelled",
            "large",
            None,
        )
        assert [event.kind for event in trail][-2:] == ["agent.finished", "run.finished"]


async def test_how_a_replica_was_chosen_is_told_where_there_was_a_choice() -> None:
    async with team(one(balancing={"strategy": "least_busy"})) as t:
        alone = only(await t.trail((await t.run(agent="a")).run_id), "agent.started")
        assert (alone.strategy, alone.data) == ("", {})
        bind_agent(t, "a", 1)
        await settle()
        chosen = only(await t.trail((await t.run(agent="a")).run_id), "agent.started")
        assert chosen.strategy == "least_busy"
        assert sorted(chosen.data["loads"].values()) == [0, 1]
        assert chosen.data["loads"][chosen.replica.rpartition("/")[2]] == 1


async def test_a_replica_that_is_left_out_is_told_by_the_run_that_was_the_last_straw() -> None:
    ejection = {"consecutive_failures": 1, "max_share": 0.5}
    async with team(one(2, balancing={"ejection": ejection}, resilience=CALM)) as t:
        bind_agent(t, "a", 1)
        await settle()
        t.models["a"].errors = [ModelError("down")]
        trail = await t.trail((await t.run(agent="a")).run_id)
        out = only(trail, "replica.ejected")
        assert (out.agent, out.replica) == ("a", calls(trail)[0].replica)
        assert (out.data["reason"], out.data["times"]) == ("failures", 1)
        assert out.data["out_s"] > 0


async def test_scores_of_all_agents_that_came_into_question_are_told() -> None:
    rules = [{"keywords": ["refund", "money"], "target_agent": "a"}, {"keywords": ["money"], "target_agent": "b"}]
    async with team(config(routing={"rules": rules})) as t:
        routed = only(await t.trail((await t.run("refund my money")).run_id), "run.routed")
        assert list(routed.data["scores"]) == ["a", "b"]
        assert routed.data["scores"]["a"] == pytest.approx(routed.confidence, abs=1e-4)
        assert routed.data["scores"]["b"] < routed.data["scores"]["a"]
        clear = only(await t.trail((await t.run("refund")).run_id), "run.routed")
        assert "scores" not in clear.data, "there was nobody else"


async def test_the_trace_of_a_request_is_on_all_its_events() -> None:
    async with team(one()) as t:
        traced = Traced()
        t.fabric.unbind("agent/a/0")
        bind_agent(t, "a", 1, traced)
        context.set(Context(TRACE))
        trail = await t.trail((await t.run(agent="a")).run_id)
        assert {(event.trace_id, event.span_id) for event in trail} == {tuple(TRACE.split("-")[1:3])}
        assert traced.context == Context(TRACE), "its call upstream is part of it, too"


@pytest.mark.parametrize(
    ("how", "question", "answer"), [("full", "I am b@c.de", "done"), ("redacted", "I am [email]", "done")]
)
async def test_content_is_on_the_first_and_the_last_event_of_a_run(how: str, question: str, answer: str) -> None:
    async with team(one(monitoring={"capture": how})) as t:
        trail = await t.trail((await t.run("I am b@c.de", agent="a")).run_id)
        assert [(event.kind, event.content) for event in trail if event.content] == [
            ("run.started", question),
            ("run.finished", answer),
        ]


async def test_of_several_parts_each_has_its_content() -> None:
    both = {"rules": [{"keywords": ["both"], "target_agents": ["a", "b"]}]}
    async with team(
        config(routing=both, monitoring={"capture": "full"}),
        model=lambda name: HeldModel(f"It is {name} that answers."),
    ) as t:
        trail = await t.trail((await t.run("both")).run_id)
        parts = {event.agent: event.content for event in trail if event.kind == "agent.finished"}
        assert parts == {"a": "It is a that answers.", "b": "It is b that answers."}


async def test_calls_that_the_router_makes_itself_are_told_with_their_purpose() -> None:
    told: list[tuple[Work, Event]] = []
    made = SideCalls(one(), lambda work, event: told.append((work, event)), SYSTEM_CLOCK)
    build = made.of(lambda: model, "large", "routing")
    assert build is not None
    model = HeldModel("a")
    client = build()
    asked = ModelRequest([Message("user", "whose?")], ModelParams())
    assert (await client.complete(asked)).text == "a"
    assert not told, "nobody's run is under way"
    work = Work(Run(RunRequest("run_1", "sess_1", [Message("user", "hi")]), "team", "router/0", 0.0))
    under_way.set(work)
    await client.complete(asked)
    model.errors = [ModelError("down")]
    with pytest.raises(ModelError):
        await client.complete(asked)
    assert [(of is work, e.kind, e.status, e.model, e.data["purpose"]) for of, e in told] == [
        (True, "model.finished", "ok", "held", "routing"),
        (True, "model.finished", "error", "large", "routing"),
    ]
    assert work.run.cost_usd == pytest.approx(ANSWERED)
    await client.close()
    assert model.closed
    assert made.of(None, "large", "routing") is None


class Traced(HeldModel):
    async def complete(self, request: ModelRequest) -> ModelReply:
        self.context = context.get()
        return await super().complete(request)


class Talkative(HeldModel):
    """Says all that an endpoint can say."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        tool = ToolCall("call_1", FunctionCall("look", '{"at": "it"}'))
        usage = Usage(3, 2, cached_tokens=2, reasoning_tokens=1)
        return ModelReply("", "tool_calls", usage, "held", [tool], "resp_1")


class Breaking(HeldModel):
    """Breaks off in its answer."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        yield ModelChunk(("one ", "two "))
        raise ModelError("the connection broke")
