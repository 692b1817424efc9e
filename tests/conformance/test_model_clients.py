"""One contract, two clients: what the runtime may expect of any `ModelClient`, and what no endpoint may do to it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fault_server import DONE, END, SSE_HEAD, USAGE, FaultServer, error, event, piece, response, stream
from openai import AsyncOpenAI, NotFoundError
from openai import BadRequestError as OpenAIBadRequest

from rayflow.api.model_faults import Behaviour
from rayflow.api.model_server import ModelServer, listen, make_server
from rayflow.chat import Message, ModelChunk, ModelParams, ModelReply, ModelRequest
from rayflow.config.schema import Timeouts
from rayflow.context import Context, context
from rayflow.errors import (
    ConfigurationError,
    ModelError,
    ModelIncomplete,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
)
from rayflow.models.offline.model import OfflineModel
from rayflow.models.openai_endpoint import OpenAIEndpoint
from rayflow.runtime.ports import ModelClient

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SHORT = Timeouts(first_token_s=0.2, between_tokens_s=0.2)
KEY = "sk-secret-0123456789"


@pytest.fixture
async def model_server() -> AsyncIterator[str]:
    """Base URL of the standalone endpoint over the offline model."""
    async for url in _serving(Behaviour()):
        yield url


async def _serving(behaviour: Behaviour) -> AsyncIterator[str]:
    with listen("127.0.0.1", 0) as listener:
        server = make_server(ModelServer(behaviour))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        await task


@pytest.fixture(params=["offline", "fast", "sdk"])
async def client(request: pytest.FixtureRequest, model_server: str) -> AsyncIterator[ModelClient]:
    if request.param == "offline":
        made: ModelClient = OfflineModel()
    else:
        made = OpenAIEndpoint("any", api_key=KEY, base_url=model_server, lane=request.param)
    yield made
    await made.close()


def ask(*turns: str, params: ModelParams | None = None, deadline_s: float | None = None) -> ModelRequest:
    roles = ("user", "assistant")
    messages = [Message(roles[i % 2], text) for i, text in enumerate(turns)]
    return ModelRequest(messages, params or ModelParams(), deadline_s)


ORDER = ("My order number is 48213 and it arrived broken.", "Noted.", "What was my order number?")


async def chunks_of(client: ModelClient, request: ModelRequest) -> list[ModelChunk]:
    return [chunk async for chunk in client.stream(request)]


# --- the contract -----------------------------------------------------------------------------------------------------


async def test_a_fact_told_two_turns_ago_is_in_the_answer(client: ModelClient) -> None:
    reply = await client.complete(ask(*ORDER))
    assert "48213" in reply.text
    assert reply.finish_reason == "stop"
    assert reply.model == "offline"


async def test_usage_is_counted_and_not_estimated(client: ModelClient) -> None:
    reply = await client.complete(ask(*ORDER))
    assert (reply.usage.prompt_tokens, reply.usage.estimated) == (18, False)
    assert reply.usage.completion_tokens > 5


async def test_a_stream_says_what_complete_says(client: ModelClient) -> None:
    reply = await client.complete(ask(*ORDER))
    chunks = await chunks_of(client, ask(*ORDER))
    assert "".join(chunk.text for chunk in chunks) == reply.text
    assert chunks[-1].finish_reason == reply.finish_reason
    assert chunks[-1].usage == reply.usage
    assert {chunk.finish_reason for chunk in chunks} <= {None, reply.finish_reason}


async def test_max_tokens_cuts_the_answer_and_says_length(client: ModelClient) -> None:
    for params in (ModelParams(max_tokens=3), ModelParams(max_completion_tokens=3)):
        reply = await client.complete(ask(*ORDER, params=params))
        assert (reply.finish_reason, reply.usage.completion_tokens) == ("length", 3)
        chunks = await chunks_of(client, ask(*ORDER, params=params))
        assert chunks[-1].finish_reason == "length"
        assert "".join(chunk.text for chunk in chunks) == reply.text


async def test_a_stop_sequence_ends_the_answer_before_it(client: ModelClient) -> None:
    whole = await client.complete(ask(*ORDER))
    reply = await client.complete(ask(*ORDER, params=ModelParams(stop=["48213"])))
    assert reply.text == whole.text.split("48213")[0]
    assert reply.finish_reason == "stop"


async def test_the_same_request_gets_the_same_answer(client: ModelClient) -> None:
    for seed in (None, 1, 2):
        request = ask(*ORDER, params=ModelParams(seed=seed))
        assert (await client.complete(request)).text == (await client.complete(request)).text


async def test_a_tool_the_message_names_is_called(client: ModelClient) -> None:
    request = ask("What is the weather in Paris?", params=ModelParams(tools=[WEATHER]))
    reply = await client.complete(request)
    assert reply.finish_reason == "tool_calls"
    assert reply.text == ""
    [call] = reply.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    chunks = await chunks_of(client, request)
    [delta] = [delta for chunk in chunks for delta in chunk.tool_calls]
    assert (delta.id, delta.name, delta.arguments) == (call.id, call.function.name, call.function.arguments)
    assert chunks[-1].finish_reason == "tool_calls"


async def test_tool_choice_none_suppresses_the_call(client: ModelClient) -> None:
    reply = await client.complete(ask("Weather in Paris?", params=ModelParams(tools=[WEATHER], tool_choice="none")))
    assert (reply.tool_calls, reply.finish_reason) == ([], "stop")


async def test_a_tool_result_is_answered_in_words(client: ModelClient) -> None:
    asked = ask("What is the weather in Paris?", params=ModelParams(tools=[WEATHER]))
    [call] = (await client.complete(asked)).tool_calls
    result = Message("tool", '{"sky": "clear", "celsius": 21}', tool_call_id=call.id)
    messages = [*asked.messages, Message("assistant", tool_calls=[call]), result]
    reply = await client.complete(ModelRequest(messages, asked.params))
    assert "clear" in reply.text
    assert "21" in reply.text


async def test_an_abandoned_stream_leaves_the_client_usable(client: ModelClient) -> None:
    chunks = client.stream(ask(*ORDER))
    await anext(chunks)
    await chunks.aclose()
    assert "48213" in (await client.complete(ask(*ORDER))).text


async def test_many_calls_at_once_do_not_mix(client: ModelClient) -> None:
    async def one(number: int) -> bool:
        told = ask(f"My order number is {number}.", "Noted.", "What was my order number?")
        chunks = await chunks_of(client, told)
        return str(number) in "".join(chunk.text for chunk in chunks)

    assert all(await asyncio.gather(*(one(10_000 + i) for i in range(40))))


# --- endpoints that break the rules -----------------------------------------------------------------------------------


async def _cut_off(writer: asyncio.StreamWriter) -> None:
    writer.write(SSE_HEAD + piece(event({"content": "half an "})))
    await writer.drain()
    writer.close()


async def _broken_framing(writer: asyncio.StreamWriter) -> None:
    writer.write(SSE_HEAD + piece(HELLO))
    await writer.drain()
    await asyncio.sleep(0.1)  # apart from the good bytes: in one read with them, they would never be looked at
    writer.write(piece(event({"content": " more"})) + b"zz\r\nno chunk\r\n")
    await writer.drain()


async def _drop(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _half_an_answer(writer: asyncio.StreamWriter) -> None:
    writer.write(response(MODELS_ANSWER)[:-20])
    await writer.drain()
    writer.close()


async def _endless(writer: asyncio.StreamWriter) -> None:
    writer.write(SSE_HEAD)
    while True:
        writer.write(piece(event({"content": "more "})))
        await writer.drain()
        await asyncio.sleep(0.01)


async def _byte_by_byte(writer: asyncio.StreamWriter) -> None:
    writer.write(SSE_HEAD)
    text = event({"content": "grün 🌱"}).replace(b"\\u00fc", "ü".encode()) + event({}, "stop") + DONE
    for i in range(len(text)):
        writer.write(piece(text[i : i + 1]))
        await writer.drain()
    writer.write(END)


HELLO = event({"role": "assistant", "content": ""}) + event({"content": "Hello"})
MODELS_ANSWER = json.dumps(
    {"model": "m-1", "choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
).encode()
CALL_DELTAS = (
    {
        "tool_calls": [
            {"index": 0, "id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
        ]
    },
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '"Paris"}'}}]},
)

SCRIPTS = {
    "fine": stream(HELLO, event({}, "stop"), event(usage=USAGE), DONE),
    "no-finish": stream(HELLO, DONE),
    "no-finish-no-done": stream(HELLO),
    "no-done": stream(HELLO, event({}, "stop")),
    "no-usage": stream(HELLO, event({}, "stop"), DONE),
    "no-end": stream(HELLO, event({}, "stop"), event(usage=USAGE), DONE, end=b""),
    "unknown-finish": stream(HELLO, event({}, "error"), DONE),
    "empty": stream(),
    "broken-json": stream(HELLO, b'data: {"choices": [{"delta"\n\n', DONE),
    "wrong-shape": stream(HELLO, b'data: {"choices": "none"}\n\n', DONE),
    "not-utf-8": stream(HELLO, b'data: {"choices": "\xff\xfe"}\n\n', DONE),
    "broken-framing": _broken_framing,
    "html": response(b"<!doctype html><title>Welcome</title>", kind="text/html"),
    "json-for-stream": response(MODELS_ANSWER),
    "error-chunk": stream(HELLO, b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'),
    "huge-chunk": stream(HELLO, event({"content": "x" * (1 << 20)}), DONE),
    "tool-deltas": stream(*(event(delta) for delta in CALL_DELTAS), event({}, "tool_calls"), DONE),
    "comments": stream(b": ping\n\n", HELLO.replace(b"\n", b"\r\n"), b": still here\n\n", event({}, "stop"), DONE),
    "cut-off": _cut_off,
    "drop": _drop,
    "endless": _endless,
    "byte-by-byte": _byte_by_byte,
    "silent": b"",
    "stall-first": SSE_HEAD,
    "stall-between": SSE_HEAD + piece(HELLO),
    "json": response(MODELS_ANSWER),
    "json-no-choices": response(b'{"choices": []}'),
    "json-list": response(b"[]"),
    "json-error": response(b'{"error": {"message": "no such deployment"}}'),
    "json-no-finish": response(b'{"choices": [{"message": {"role": "assistant", "content": "Hel"}}]}'),
    "json-not-utf-8": response(b'{"error": "\xff\xfe"}'),
    "json-truncated": _half_an_answer,
    "429": error("429 Too Many Requests", "slow down", "retry-after: 3\r\n"),
    "429-ms": error("429 Too Many Requests", "slow down", "retry-after: 3\r\nretry-after-ms: 250\r\n"),
    "400": error("400 Bad Request", "context length exceeded"),
    "401": error("401 Unauthorized", f"Incorrect API key provided: {KEY}"),
    "404": error("404 Not Found", f"no such model, key {KEY}"),
    "500": error("500 Internal Server Error", "boom"),
    "503-html": response(b"<html>bad gateway</html>", "503 Service Unavailable", "text/html"),
    "redirect": response(b"", "307 Temporary Redirect", extra="location: http://elsewhere.test/\r\n"),
}  # fmt: skip


@pytest.fixture(params=["fast", "sdk"])
async def faults(request: pytest.FixtureRequest) -> AsyncIterator[FaultServer]:
    """Every fault is met on both lanes."""
    async with FaultServer(SCRIPTS) as server:
        server.lane = request.param
        yield server


async def stream_of(faults: FaultServer, script: str, timeouts: Timeouts | None = None) -> list[ModelChunk]:
    endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=faults.url(script), lane=faults.lane, timeouts=timeouts)
    try:
        return await chunks_of(endpoint, ask("Hello?"))
    finally:
        await endpoint.close()


async def reply_of(faults: FaultServer, script: str, deadline_s: float | None = None) -> ModelReply:
    endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=faults.url(script), lane=faults.lane)
    try:
        return await endpoint.complete(ask("Hello?", deadline_s=deadline_s))
    finally:
        await endpoint.close()


@pytest.mark.parametrize("script", ["fine", "no-done", "no-usage", "no-end", "comments"])
async def test_a_stream_with_a_finish_reason_is_whole(faults: FaultServer, script: str) -> None:
    chunks = await stream_of(faults, script)
    assert "".join(chunk.text for chunk in chunks) == "Hello"
    assert chunks[-1].finish_reason == "stop"


async def test_reported_usage_is_passed_on_and_missing_usage_is_estimated(faults: FaultServer) -> None:
    reported = (await stream_of(faults, "fine"))[-1].usage
    estimated = (await stream_of(faults, "no-usage"))[-1].usage
    assert reported is not None
    assert estimated is not None
    assert (reported.prompt_tokens, reported.completion_tokens, reported.estimated) == (7, 2, False)
    assert (estimated.completion_tokens, estimated.estimated) == (2, True)
    assert (await reply_of(faults, "json")).usage.estimated


@pytest.mark.parametrize(
    "script",
    [
        "no-finish",
        "no-finish-no-done",
        "unknown-finish",
        "broken-json",
        "wrong-shape",
        "huge-chunk",
        "not-utf-8",
    ],
)
async def test_a_stream_that_ends_early_or_holds_garbage_is_incomplete(faults: FaultServer, script: str) -> None:
    with pytest.raises(ModelIncomplete) as raised:
        await stream_of(faults, script)
    assert raised.value.details["partial"] == "Hello"
    assert raised.value.details["model"] == "m"


async def test_a_dropped_stream_is_incomplete_and_keeps_what_came(faults: FaultServer) -> None:
    with pytest.raises(ModelIncomplete, match="mid-stream") as raised:
        await stream_of(faults, "cut-off")
    assert raised.value.details["partial"] == "half an "


async def test_garbage_between_the_chunks_is_never_a_complete_answer(faults: FaultServer) -> None:
    with pytest.raises(ModelError) as raised:
        await stream_of(faults, "broken-framing", Timeouts(between_tokens_s=1))
    assert raised.value.details["partial"] == "Hello more"
    if faults.lane == "fast":
        assert isinstance(raised.value, ModelIncomplete), "it does not wait for a timeout"


async def test_an_empty_stream_is_incomplete(faults: FaultServer) -> None:
    with pytest.raises(ModelIncomplete) as raised:
        await stream_of(faults, "empty")
    assert raised.value.details["partial"] == ""


async def test_an_error_in_the_stream_is_an_error_with_the_upstreams_words(faults: FaultServer) -> None:
    with pytest.raises(ModelError, match="out of memory") as raised:
        await stream_of(faults, "error-chunk")
    assert raised.value.details["partial"] == "Hello"


@pytest.mark.parametrize("script", ["html", "json-for-stream"])
async def test_an_answer_that_is_no_event_stream_is_an_error(faults: FaultServer, script: str) -> None:
    with pytest.raises(ModelError, match="instead of an event stream"):
        await stream_of(faults, script)


async def test_a_connection_dropped_before_the_answer_is_an_error_and_no_timeout(faults: FaultServer) -> None:
    for call in (stream_of(faults, "drop"), reply_of(faults, "drop")):
        with pytest.raises(ModelError) as raised:
            await call
        assert type(raised.value) is ModelError


async def test_a_refused_connection_is_an_error_and_no_timeout(faults: FaultServer) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1", lane=faults.lane)
    with pytest.raises(ModelError, match="no answer") as raised:
        await endpoint.complete(ask("Hello?"))
    assert type(raised.value) is ModelError
    await endpoint.close()


@pytest.mark.parametrize(
    ("script", "phase"),
    [("silent", "first_token"), ("stall-first", "first_token"), ("stall-between", "between_tokens")],
)
async def test_a_stall_is_a_timeout_of_its_phase(faults: FaultServer, script: str, phase: str) -> None:
    with pytest.raises(ModelTimeout) as raised:
        await stream_of(faults, script, SHORT)
    assert raised.value.details["phase"] == phase


async def test_an_endless_stream_ends_at_the_total_limit(faults: FaultServer) -> None:
    with pytest.raises(ModelTimeout) as raised:
        await stream_of(faults, "endless", Timeouts(total_s=0.3))
    assert raised.value.details["phase"] == "total"
    assert raised.value.details["partial"].startswith("more more ")
    await faults.client_left.wait()


async def test_a_requests_deadline_shortens_every_limit(faults: FaultServer) -> None:
    for deadline_s in (0.05, 0.0):
        with pytest.raises(ModelTimeout) as raised:
            await reply_of(faults, "silent", deadline_s)
        assert raised.value.details["phase"] == "total"


async def test_split_characters_and_line_breaks_are_put_together(faults: FaultServer) -> None:
    chunks = await stream_of(faults, "byte-by-byte")
    assert "".join(chunk.text for chunk in chunks) == "grün 🌱"


async def test_tool_call_deltas_are_passed_on_in_order(faults: FaultServer) -> None:
    chunks = await stream_of(faults, "tool-deltas")
    deltas = [delta for chunk in chunks for delta in chunk.tool_calls]
    assert [delta.id for delta in deltas] == ["c1", "", ""]
    assert "".join(delta.arguments for delta in deltas) == '{"city":"Paris"}'
    assert chunks[-1].finish_reason == "tool_calls"


async def test_closing_the_generator_closes_the_upstream_call(faults: FaultServer) -> None:
    endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=faults.url("endless"), lane=faults.lane)
    chunks = endpoint.stream(ask("Hello?"))
    await anext(chunks)
    assert not faults.client_left.is_set()
    await chunks.aclose()
    await faults.client_left.wait()
    await endpoint.close()


async def test_cancelling_a_call_closes_the_upstream_call(faults: FaultServer) -> None:
    endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=faults.url("silent"), lane=faults.lane)
    call = asyncio.create_task(endpoint.complete(ask("Hello?")))
    await faults.asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await faults.client_left.wait()
    await endpoint.close()


@pytest.mark.parametrize(
    "script", ["html", "json-list", "json-not-utf-8", "json-no-choices", "json-error", "json-truncated"]
)
async def test_a_complete_answer_that_is_none_is_an_error(faults: FaultServer, script: str) -> None:
    with pytest.raises(ModelError) as raised:
        await reply_of(faults, script)
    assert type(raised.value) is ModelError


async def test_a_complete_answer_without_a_finish_reason_is_incomplete(faults: FaultServer) -> None:
    with pytest.raises(ModelIncomplete) as raised:
        await reply_of(faults, "json-no-finish")
    assert raised.value.details["partial"] == "Hel"


@pytest.mark.parametrize(("script", "wait_s"), [("429", 3.0), ("429-ms", 0.25)])
async def test_a_rate_limit_says_how_long_to_wait(faults: FaultServer, script: str, wait_s: float) -> None:
    for call in (reply_of(faults, script), stream_of(faults, script)):
        with pytest.raises(ModelRateLimited) as raised:
            await call
        assert raised.value.retry_after_s == wait_s


async def test_a_refused_request_carries_the_upstreams_reason(faults: FaultServer) -> None:
    with pytest.raises(ModelRejected, match="context length exceeded") as raised:
        await reply_of(faults, "400")
    assert raised.value.details["upstream_status"] == 400
    assert not raised.value.retryable


async def test_a_redirect_is_not_followed(faults: FaultServer) -> None:
    with pytest.raises(ModelRejected, match=r"redirect to http://elsewhere\.test/"):
        await reply_of(faults, "redirect")


@pytest.mark.parametrize("script", ["401", "404"])
async def test_no_error_shows_the_key(faults: FaultServer, script: str) -> None:
    with pytest.raises(ModelRejected) as raised:
        await reply_of(faults, script)
    assert KEY not in repr(raised.value.to_info())
    assert f"Bearer {KEY}" in faults.requests[0][0]


@pytest.mark.parametrize(("script", "said"), [("500", "boom"), ("503-html", "an HTML page")])
async def test_a_server_error_may_be_retried(faults: FaultServer, script: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as raised:
        await reply_of(faults, script)
    assert type(raised.value) is ModelError
    assert raised.value.retryable


async def test_the_request_is_what_openai_expects(faults: FaultServer) -> None:
    endpoint = OpenAIEndpoint(
        "m",
        api_key=KEY,
        base_url=faults.url("fine"),
        lane=faults.lane,
        organization="org-1",
        headers={"x-team": "blue"},
    )
    await chunks_of(endpoint, ask("Hello?", params=ModelParams(temperature=0.5, stop=["x"])))
    await endpoint.close()
    [(head, body)] = faults.requests
    assert head.startswith("POST /fine/v1/chat/completions ")
    assert "openai-organization: org-1" in head.lower()
    assert "x-team: blue" in head.lower()
    assert "content-type: application/json" in head.lower()
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello?"}],
        "temperature": 0.5,
        "stop": ["x"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


# --- addresses, headers and connections -------------------------------------------------------------------------------


async def heads_of(faults: FaultServer, base_url: str, calls: int = 1, **more: Any) -> list[str]:
    """What the server got to see."""
    endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=base_url, lane=faults.lane, **more)
    for _ in range(calls):
        await endpoint.complete(ask("Hello?", deadline_s=5))
    await endpoint.close()
    return [head for head, _ in faults.requests]


async def test_one_connection_serves_one_call_after_the_other(faults: FaultServer) -> None:
    await heads_of(faults, faults.url("json"), calls=3)
    assert faults.connections == 1
    endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=faults.url("fine"), lane=faults.lane)
    for _ in range(3):
        await chunks_of(endpoint, ask("Hello?"))
    await endpoint.close()
    assert faults.connections == 2


async def test_a_user_and_password_in_the_address_come_before_the_key(faults: FaultServer) -> None:
    [head] = await heads_of(faults, faults.url("json").replace("://", "://us%40er:p%3Aw@"))
    assert "authorization: basic " + b64encode(b"us@er:p:w").decode().lower() in head.lower()
    assert KEY not in head
    assert "127.0.0.1" in head
    assert "us%40er" not in head


async def test_an_authorization_header_comes_before_the_key(faults: FaultServer) -> None:
    [head] = await heads_of(faults, faults.url("json"), headers={"AUTHORIZATION": "Token t-1", "Host": "model.test"})
    assert "authorization: token t-1" in head.lower()
    assert "host: model.test" in head.lower()
    assert KEY not in head


@pytest.mark.parametrize("ending", ["?api-version=1", "/?api-version=1", "?api-version=1#x"])
async def test_a_query_stays_behind_the_path(faults: FaultServer, ending: str) -> None:
    [head] = await heads_of(faults, faults.url("json") + ending)
    assert head.startswith("POST /json/v1/chat/completions?api-version=1 HTTP/1.1\r\n")


async def test_the_trace_of_a_request_goes_on_to_the_endpoint(faults: FaultServer) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    token = context.set(Context(trace))
    try:
        [head] = await heads_of(faults, faults.url("json"), headers={"x-team": "blue"})
    finally:
        context.reset(token)
    lines = head.lower().split("\r\n")
    assert (lines.count(f"traceparent: {trace}"), lines.count("x-team: blue")) == (1, 1)
    _, plain = await heads_of(faults, faults.url("json"))
    assert "traceparent" not in plain.lower()


def test_a_header_with_a_line_break_is_refused_before_the_first_call() -> None:
    with pytest.raises(ConfigurationError, match="'x-team'"):
        OpenAIEndpoint("m", api_key=KEY, base_url="http://127.0.0.1:1/v1", headers={"X-Team": "a\r\nx-b: c"})


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch, faults: FaultServer) -> FaultServer:
    """The server, as the proxy of the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "no_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{faults.port}")
    return faults


async def test_a_proxy_of_the_environment_is_used(proxied: FaultServer) -> None:
    [head] = await heads_of(proxied, "http://model.test/json/v1")
    assert head.startswith("POST http://model.test/json/v1/chat/completions ")


async def test_no_proxy_is_gone_around(proxied: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.com,127.0.0.1")
    [head] = await heads_of(proxied, proxied.url("json"))
    assert head.startswith("POST /json/v1/chat/completions ")


async def test_another_schemes_proxy_is_not_used(proxied: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("http_proxy")
    [head] = await heads_of(proxied, proxied.url("json"))
    assert head.startswith("POST /json/v1/chat/completions ")


# --- the standalone endpoint, met by the official client --------------------------------------------------------------


@pytest.fixture
async def openai_client(model_server: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=model_server, api_key="anything", max_retries=0) as made:
        yield made


async def test_the_openai_client_completes_unchanged(openai_client: AsyncOpenAI) -> None:
    completion = await openai_client.chat.completions.create(
        model="offline", messages=[{"role": "user", "content": "My name is Ada. What is my name? Answer briefly."}]
    )
    assert "Ada" in (completion.choices[0].message.content or "")
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


async def test_the_openai_client_streams_unchanged(openai_client: AsyncOpenAI) -> None:
    answer = await openai_client.chat.completions.create(
        model="offline",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        stream_options={"include_usage": True},
        stop="offline",
    )
    chunks = [chunk async for chunk in answer]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello! I am rayflow's "
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage is None) == ([], False)


async def test_the_openai_client_calls_tools_unchanged(openai_client: AsyncOpenAI) -> None:
    async with openai_client.chat.completions.stream(
        model="offline", messages=[{"role": "user", "content": "weather in Rome"}], tools=[WEATHER]
    ) as events:
        completion = await events.get_final_completion()
    [call] = completion.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Rome"}


async def test_the_openai_client_lists_models_that_are_no_language_models(openai_client: AsyncOpenAI) -> None:
    [model] = (await openai_client.models.list()).data
    assert model.id == "offline"
    assert "no language model" in model.owned_by
    assert (await openai_client.models.retrieve("offline")).id == "offline"
    with pytest.raises(NotFoundError):
        await openai_client.models.retrieve("gpt")


async def test_the_openai_client_understands_a_refusal(openai_client: AsyncOpenAI) -> None:
    with pytest.raises(OpenAIBadRequest) as raised:
        await openai_client.chat.completions.create(model="offline", messages=[], temperature=1)
    assert raised.value.param == "messages"


@pytest.mark.parametrize(
    ("behaviour", "fault"),
    [
        (Behaviour(error_rate=1), ModelError),
        (Behaviour(rate_limit_rate=1), ModelRateLimited),
        (Behaviour(cut_rate=1, seed=3), ModelIncomplete),
        (Behaviour(stall_rate=1), ModelTimeout),
    ],
)
async def test_each_fault_of_the_standalone_endpoint_is_seen_for_what_it_is(
    behaviour: Behaviour, fault: type[ModelError]
) -> None:
    async for url in _serving(behaviour):
        timeouts = SHORT if fault is ModelTimeout else Timeouts()
        endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=url, timeouts=timeouts)
        with pytest.raises(fault) as raised:
            await chunks_of(endpoint, ask("Hello"))
        assert type(raised.value) is fault
        await endpoint.close()


@pytest.mark.parametrize("behaviour", [Behaviour(cut_rate=1), Behaviour(stall_rate=1)])
async def test_faults_hit_whole_answers_too(behaviour: Behaviour) -> None:
    async for url in _serving(behaviour):
        endpoint = OpenAIEndpoint("m", api_key=KEY, base_url=url)
        with pytest.raises(ModelError):
            await endpoint.complete(ask("Hello", deadline_s=0.5))
        await endpoint.close()
