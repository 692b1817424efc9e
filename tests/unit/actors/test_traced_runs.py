"""A run is one trace: whoever is called is told the span that the log's events become."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from actor_doubles import HeldModel, Team, config, team

from rayflow.analytics.telemetry.spans import Span, Spans
from rayflow.chat import ModelChunk, ModelReply, ModelRequest
from rayflow.config.schema import WorkflowConfig
from rayflow.context import Context, context
from rayflow.errors import ModelError
from rayflow.events import Event
from rayflow.tracing import run_span

CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TWICE = [{"name": "m", "retries": {"strategy": "simple", "max_attempts": 2}}]


class Told(HeldModel):
    """Remembers which span has called it, each time."""

    def __init__(self, text: str = "done") -> None:
        super().__init__(text)
        self.callers: list[str] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.note()
        return await super().complete(request)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        self.note()
        async for chunk in super().stream(request):
            yield chunk

    def note(self) -> None:
        ambient = context.get()
        self.callers.append(ambient.traceparent if ambient else "")


def traced(**sections: Any) -> WorkflowConfig:
    agents = ({"name": "a", "model": "m"}, {"name": "b", "model": "m"})
    monitoring = {"otel": {"enabled": True, **sections.pop("otel", {})}}
    return config(*agents, models=TWICE, monitoring=monitoring, **sections)


async def spans_of(t: Team, run_id: str) -> list[Span]:
    spans = Spans()
    trail = await t.trail(run_id)
    return [span for event in trail for span in spans.of(event)]


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


@pytest.mark.parametrize("stream", [False, True])
async def test_two_agents_and_a_retry_are_one_tree(stream: bool) -> None:
    both = {"rules": [{"keywords": ["both"], "target_agents": ["a", "b"]}]}
    async with team(traced(routing=both), model=lambda _: Told("some words")) as t:
        t.models["a"].errors = [ModelError("overloaded", upstream_status=503)]
        context.set(Context(CLIENT))
        result = await t.run("both", stream=stream, client="client/0" if stream else "")
        spans = await spans_of(t, result.run_id)
    (root,) = named(spans, "invoke_workflow team")
    a, b = (named(spans, f"invoke_agent {name}")[0] for name in "ab")
    chats = named(spans, "chat m")
    assert (root.trace_id, root.parent) == tuple(CLIENT.split("-")[1:3])
    assert {span.trace_id for span in spans} == {root.trace_id}
    assert a.parent == b.parent == named(spans, "aggregate merge")[0].parent == root.span_id
    assert [span.parent for span in chats].count(a.span_id) == 2
    assert [span.parent for span in chats].count(b.span_id) == 1
    assert len({span.span_id for span in spans}) == len(spans) == 7
    assert [span.error for span in spans if span.error] == ["overloaded"]
    for span in spans:
        parent = next((other for other in spans if other.span_id == span.parent), root)
        assert parent.start_us - 2000 <= span.start_us <= span.end_us <= parent.end_us + 2000
    told = [*t.models["a"].callers, *t.models["b"].callers]
    assert sorted(told) == sorted(f"00-{root.trace_id}-{span.span_id}-01" for span in chats)


async def test_a_run_of_a_client_without_a_trace_begins_one() -> None:
    async with team(traced(), model=lambda _: Told()) as t:
        result = await t.run(agent="a")
        spans = await spans_of(t, result.run_id)
        (root,) = named(spans, "invoke_workflow team")
        assert root.parent == ""
        assert t.models["a"].callers == [f"00-{root.trace_id}-{named(spans, 'chat m')[0].span_id}-01"]
        assert all(event.trace_id == root.trace_id for event in await t.trail(result.run_id))


async def test_what_another_router_had_begun_has_other_spans_in_the_same_trace() -> None:
    async with team(traced(), model=lambda _: Told()) as t:
        result = await t.run(agent="a", attempt=1)
        spans = await spans_of(t, result.run_id)
        (root,), (chat,) = named(spans, "invoke_workflow team"), named(spans, "chat m")
        assert root.span_id == run_span(result.run_id, 1)
        assert t.models["a"].callers == [f"00-{root.trace_id}-{chat.span_id}-01"]


async def test_a_run_that_is_not_sampled_says_so_to_everybody() -> None:
    async with team(traced(otel={"sample_ratio": 0.0}), model=lambda _: Told()) as t:
        result = await t.run(agent="a")
        assert not any(span.sampled for span in await spans_of(t, result.run_id))
        assert t.models["a"].callers[0].endswith("-00")


async def test_without_telemetry_the_model_is_called_by_the_client() -> None:
    async with team(config({"name": "a"}), model=lambda _: Told()) as t:
        context.set(Context(CLIENT))
        await t.run()
        assert t.models["a"].callers == [CLIENT]


async def test_a_fallback_is_a_span_of_the_agent_that_failed_and_one_of_the_other() -> None:
    agents = ({"name": "a", "fallback_agent": "b"}, {"name": "b"})
    configuration = config(*agents, monitoring={"otel": {"enabled": True}}, resilience={"breaker": {"enabled": False}})
    async with team(configuration) as t:
        t.models["a"].errors = [ModelError("broken", upstream_status=400)] * 9
        result = await t.run(agent="a")
        spans = await spans_of(t, result.run_id)
    (failed,), (answered,) = named(spans, "invoke_agent a"), named(spans, "invoke_agent b")
    assert (failed.error, answered.error) == ("broken", None)
    assert failed.end_us <= answered.start_us + 1000
    assert failed.attributes["error.type"] == "model-failed"


def test_attributes_have_the_names_of_the_columns() -> None:
    event = Event(
        "agent.finished", 2_000_000, run_id="run_1", seq=9, trace_id="ab" * 16, agent="a", replica="agent/a/0",
        provider="openai", model="gpt-9-mini", status="ok", finish_reason="stop", attempt=1, duration_ms=1500.0,
        ttft_ms=250.0, prompt_tokens=7, completion_tokens=3, session_id="sess_1", content="secret",
        data={"entry": "small", "response_id": "resp_1"},
    )  # fmt: skip
    chat, part = Spans().of(event)
    assert chat.name == "chat small"
    assert (chat.start_us, chat.end_us) == (500_000, 2_000_000)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "gpt-9-mini",
        "gen_ai.response.id": "resp_1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.conversation.id": "sess_1",
        "rayflow.run_id": "run_1",
    }
    assert expected.items() <= chat.attributes.items()
    assert "gen_ai.usage.input_tokens" not in part.attributes
    assert "secret" not in str([chat, part])
