"""A request that names its trace runs in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
import pytest
from api_doubles import ScriptedClient, hello
from support.whole import Call, Speaker, whole

from rayflow.analytics.telemetry.spans import Spans
from rayflow.api.trace import traceparent
from rayflow.chat import ModelChunk, ModelRequest
from rayflow.context import Context, context
from rayflow.messages import RunRequest

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("header", [TRACE, TRACE.replace("00-", "cc-", 1), TRACE.replace("00-", "cc-", 1) + "-more"])
def test_a_trace_is_taken_as_it_came(header: str) -> None:
    assert traceparent({b"traceparent": header.encode()}) == header


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        TRACE.upper(),
        TRACE + "-more",
        TRACE + "\n",
        TRACE.replace("00-", "ff-", 1),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    ],
)
def test_what_is_no_trace_is_ignored(header: str) -> None:
    assert traceparent({b"traceparent": header.encode()}) == ""
    assert traceparent({}) == ""


async def test_the_run_has_the_context_of_its_request_and_no_other(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    seen = []

    def script(run: RunRequest) -> list[object]:
        seen.append(context.get())
        return hello(run)  # type: ignore[return-value]

    client.script = script  # type: ignore[assignment]
    await http.post("/chat", json={"message": "hi"}, headers={"traceparent": TRACE})
    await http.post("/v1/chat/completions", json={"model": "team", "messages": [{"role": "user", "content": "hi"}]})
    assert seen[0] == Context(TRACE, priority=2)


class Called(Speaker):
    """Remembers the span that has called it."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        ambient = context.get()
        self.caller = ambient.traceparent if ambient else ""
        async for chunk in super().stream(request):
            yield chunk


@pytest.mark.parametrize("stream", [False, True])
async def test_with_telemetry_a_request_is_one_trace_from_its_client_to_the_model(stream: bool) -> None:
    model = Called()
    async with whole(model, monitoring={"otel": {"enabled": True}}) as system:
        body = {"message": "hello", "stream": stream}
        answer = await Call(system.ingress(), "/chat", body, traceparent=TRACE).done()
        spans = Spans()
        run, part, call = sorted(
            (span for event in await system.trail(answer.headers["x-request-id"]) for span in spans.of(event)),
            key=lambda span: ["invoke_workflow team", "invoke_agent a", "chat offline"].index(span.name),
        )
    assert f"00-{run.trace_id}-{run.parent}-01" == TRACE
    assert (part.parent, call.parent) == (run.span_id, part.span_id)
    assert model.caller == f"00-{run.trace_id}-{call.span_id}-01"


@pytest.mark.parametrize("stream", [False, True])
async def test_every_event_of_a_run_is_part_of_the_trace_of_its_request(stream: bool) -> None:
    async with whole() as system:
        body = {"message": "hello", "stream": stream}
        answer = await Call(system.ingress(), "/chat", body, traceparent=TRACE).done()
        trail = await system.trail(answer.headers["x-request-id"])
        assert {event.kind for event in trail} >= {"run.started", "agent.finished", "run.finished"}
        assert {f"00-{event.trace_id}-{event.span_id}-01" for event in trail} == {TRACE}
