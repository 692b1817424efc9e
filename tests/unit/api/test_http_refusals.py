"""Broken requests: each has its status and code, and none of them ever reaches the system."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from api_doubles import ScriptedClient, Wire, config
from starlette.types import Message

from rayflow.api import body as body_module
from rayflow.api.http import create_app

COMPLETIONS = "/v1/chat/completions"
ASK = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def ask(**more: Any) -> bytes:
    return json.dumps({"model": "team", "messages": [ASK], **more}).encode()


def say(*messages: Any) -> bytes:
    return ask(messages=list(messages))


BAD = (400, "invalid-request")
NOT_JSON = (400, "invalid-json", None)

REFUSED_BODIES: list[tuple[str, bytes, int, str, str | None]] = [
    ("no body", b"", *NOT_JSON),
    ("cut JSON", ask()[:-2], *NOT_JSON),
    ("NaN", ask()[:-1] + b', "temperature": NaN}', *NOT_JSON),
    ("number out of range", ask()[:-1] + b', "temperature": 1e400}', *NOT_JSON),
    ("duplicate key", ask()[:-1] + b', "model": "facts"}', *NOT_JSON),
    ("lone surrogate", say({**ASK, "content": "\ud800"}), *NOT_JSON),
    ("NUL", say({**ASK, "content": "a\0b"}), *NOT_JSON),
    ("BOM", b"\xef\xbb\xbf" + ask(), *NOT_JSON),
    ("too deep", b"[" * 100_000, *NOT_JSON),
    ("not UTF-8", ask().replace(b"hi", b"\xff"), 400, "invalid-encoding", None),
    ("not an object", b"[]", *BAD, None),
    ("no messages", b'{"model": "team"}', *BAD, "messages"),
    ("empty messages", say(), *BAD, "messages"),
    ("no model", json.dumps({"messages": [ASK]}).encode(), *BAD, "model"),
    ("unknown model", ask(model="gpt-6"), 404, "model_not_found", "model"),
    ("unknown parameter", ask(temprature=1), *BAD, "temprature"),
    ("wrong type", ask(temperature="hot"), *BAD, "temperature"),
    ("out of range", ask(temperature=3), *BAD, "temperature"),
    ("several answers", ask(n=2), *BAD, "n"),
    ("no tokens", ask(max_completion_tokens=0), *BAD, "max_completion_tokens"),
    ("stream as text", ask(stream="yes"), *BAD, "stream"),
    ("options without stream", ask(stream_options={"include_usage": True}), *BAD, "stream_options"),
    ("unknown stream option", ask(stream=True, stream_options={"usage": True}), *BAD, "stream_options.usage"),
    ("top_logprobs alone", ask(top_logprobs=2), *BAD, "top_logprobs"),
    ("five stops", ask(stop=list("abcde")), *BAD, "stop"),
    ("response format", ask(response_format={"type": "xml"}), *BAD, "response_format.type"),
    ("audio", ask(modalities=["text", "audio"]), 422, "unsupported-parameter", "modalities"),
    ("old functions", ask(functions=[]), 422, "unsupported-parameter", "functions"),
    ("unknown role", say({"role": "wizard", "content": "x"}), *BAD, "messages[0].role"),
    ("no role", say({"content": "x"}), *BAD, "messages[0].role"),
    ("no content", say({"role": "user"}), *BAD, "messages[0].content"),
    ("content is a number", say({"role": "user", "content": 7}), *BAD, "messages[0].content"),
    ("field of another role", say({**ASK, "tool_call_id": "c1"}), *BAD, "messages[0].tool_call_id"),
    ("no parts", say({**ASK, "content": []}), *BAD, "messages[0].content"),
    ("unknown part", say({**ASK, "content": [{"type": "smell"}]}), *BAD, "messages[0].content[0].type"),
    ("part without text", say({**ASK, "content": [{"type": "text"}]}), *BAD, "messages[0].content[0].text"),
    ("picture of the assistant", say({"role": "assistant", "content": [{"type": "image_url", "image_url": {}}]}), *BAD,
     "messages[0].content[0].type"),
    ("silent assistant", say(ASK, {"role": "assistant"}), *BAD, "messages[1].content"),
    ("instructions only", say({"role": "system", "content": "x"}), *BAD, "messages"),
    ("tool without call", say(ASK, {"role": "tool", "content": "7"}), *BAD, "messages[1].tool_call_id"),
    ("result nobody asked for", say(ASK, {"role": "tool", "content": "7", "tool_call_id": "c1"}), *BAD,
     "messages[1].tool_call_id"),
    ("malformed call", say(ASK, {"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}), *BAD,
     "messages[1].tool_calls[0].type"),
    ("empty text", say({**ASK, "content": ""}), *BAD, "messages[0].content"),
    ("too long", say({**ASK, "content": "x" * 10_001}), *BAD, "messages[0].content"),
    ("tool without name", ask(tools=[{"type": "function", "function": {}}]), *BAD, "tools[0].function.name"),
    ("tool of another kind", ask(tools=[{"type": "custom"}]), *BAD, "tools[0]"),
    ("tool with a list as schema", ask(tools=[{**TOOL, "function": {"name": "f", "parameters": []}}]), *BAD,
     "tools[0].function.parameters"),
    ("two tools of one name", ask(tools=[TOOL, TOOL]), *BAD, "tools"),
    ("choice of no tool", ask(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}), *BAD,
     "tool_choice"),
    ("required without tools", ask(tool_choice="required"), *BAD, "tool_choice"),
    ("too much metadata", ask(metadata={str(i): "x" for i in range(17)}), *BAD, "metadata"),
    ("metadata value", ask(metadata={"a": 1}), *BAD, "metadata[...]"),
    ("bad session in metadata", ask(metadata={"session_id": "a b"}), *BAD, "metadata.session_id"),
    ("metadata key", ask(metadata={"k" * 65: "v"}), *BAD, "metadata"),
    ("bad user", ask(user="a\nb"), *BAD, "user"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code", "param"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED_BODIES]
)
async def test_a_broken_completion_request_is_refused_and_not_run(
    client: ScriptedClient, http: httpx2.AsyncClient, body: bytes, status: int, code: str, param: str | None
) -> None:
    answer = await http.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-should-retry"] == "false"
    assert client.runs == []


REFUSED_CHATS: list[tuple[str, Any, int, str, str | None]] = [
    ("no message", {}, 400, "invalid-request", "message"),
    ("message is null", {"message": None}, 400, "invalid-request", "message"),
    ("empty message", {"message": ""}, 400, "invalid-request", "message"),
    ("too long", {"message": "x" * 10_001}, 400, "invalid-request", "message"),
    ("unknown field", {"message": "hi", "mesage": "hi"}, 400, "invalid-request", "mesage"),
    ("temperature", {"message": "hi", "temperature": 2.5}, 400, "invalid-request", "temperature"),
    ("max_tokens", {"message": "hi", "max_tokens": 0}, 400, "invalid-request", "max_tokens"),
    ("unknown agent", {"message": "hi", "agent": "nobody"}, 404, "not-found", "agent"),
    ("workflow as agent", {"message": "hi", "agent": "team"}, 404, "not-found", "agent"),
    ("bad id", {"message": "hi", "conversation_id": "../x"}, 400, "invalid-request", "conversation_id"),
    ("two ids", {"message": "hi", "conversation_id": "a", "session_id": "b"}, 400, "invalid-request", "session_id"),
    ("bad user", {"message": "hi", "user_id": ""}, 400, "invalid-request", "user_id"),
    *[
        (name, {"message": "hi", name: value}, 422, "unsupported-parameter", name)
        for name, value in {
            "profile_id": "p", "workflow": "rag", "workflow_template": "t", "workflow_config": {}, "provider": "x",
            "document_ids": ["d"], "enable_memory": False, "memory_window": 5, "allowed_tools": [], "max_tool_calls": 3,
        }.items()
    ],
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "slug", "param"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED_CHATS]
)
async def test_a_broken_chat_request_is_a_problem_and_not_run(
    client: ScriptedClient, http: httpx2.AsyncClient, body: Any, status: int, slug: str, param: str | None
) -> None:
    answer = await http.post("/chat", json=body)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["type"], problem.get("param")) == (status, f"urn:rayflow:problem:{slug}", param)
    assert problem["instance"] == answer.headers["x-request-id"]
    assert problem["status"] == status
    assert problem["error_code"].startswith("WORKFLOW_")
    assert client.runs == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-type": "text/plain"}, 415, "unsupported-media-type"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        ({"x-session-id": "a b"}, 400, "invalid-request"),
        ({"x-session-id": ""}, 400, "invalid-request"),
        ({"x-timeout-s": "soon"}, 400, "invalid-request"),
        ({"x-timeout-s": "-1"}, 400, "invalid-request"),
        ({"x-timeout-s": "nan"}, 400, "invalid-request"),
        ({f"x-{i}": "a" for i in range(101)}, 400, "headers-invalid"),
        ({"x-long": "a" * 16_384}, 400, "headers-invalid"),
        ({"content-length": "5", "transfer-encoding": "chunked"}, 400, "headers-invalid"),
        ({"content-length": "1e3"}, 400, "headers-invalid"),
        ({"content-length": "9" * 5000}, 400, "headers-invalid"),
        ({"content-length": "1048577"}, 413, "body-too-large"),
    ],
)
async def test_bad_headers_are_refused(client: ScriptedClient, headers: dict[str, str], status: int, code: str) -> None:
    wire = Wire(COMPLETIONS, ask(), headers=headers)
    await create_app(client)(wire.scope, wire.receive, wire.send)
    assert (wire.status, json.loads(wire.body)["error"]["code"]) == (status, code)
    assert client.runs == []


@pytest.mark.parametrize("name", ["host", "authorization", "x-session-id", "content-length"])
async def test_a_header_that_must_be_single_is_refused_twice(client: ScriptedClient, name: str) -> None:
    wire = Wire(COMPLETIONS, ask())
    wire.scope["headers"] += [(name.encode(), b"1"), (name.encode(), b"1")]
    await create_app(client)(wire.scope, wire.receive, wire.send)
    assert (wire.status, wire.headers["connection"]) == (400, "close")
    assert client.runs == []


async def test_a_request_without_host_is_refused(client: ScriptedClient) -> None:
    wire = Wire(COMPLETIONS, ask())
    wire.scope["headers"] = [pair for pair in wire.scope["headers"] if pair[0] != b"host"]
    await create_app(client)(wire.scope, wire.receive, wire.send)
    assert wire.status == 400


@pytest.mark.parametrize("headers", [{}, {"content-length": "10"}])
async def test_a_body_that_grows_past_the_limit_is_answered_at_once_and_the_rest_thrown_away(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off while it still sends, a client would see a broken connection and not the answer."""
    monkeypatch.setattr(body_module, "LINGER_BYTES", 1500)
    client = ScriptedClient(config(security={"max_body_bytes": 1024}))
    wire = Wire(COMPLETIONS, *[b"x" * 600] * 10, headers=headers)
    answered_after: list[int] = []

    async def send(message: Message) -> None:
        if message.get("body"):
            answered_after.append(wire.reads)
        await wire.send(message)

    await create_app(client)(wire.scope, wire.receive, send)
    assert answered_after == [2]
    assert (wire.status, json.loads(wire.body)["error"]["code"]) == (413, "body-too-large")
    assert wire.headers["connection"] == "close"
    assert wire.reads == 5, "no more than LINGER_BYTES are waited for"


async def test_a_body_of_just_the_limit_is_taken() -> None:
    client = ScriptedClient(config(security={"max_body_bytes": 1024}))
    body = ask()
    wire = Wire(COMPLETIONS, body, b" " * (1024 - len(body)))
    await create_app(client)(wire.scope, wire.receive, wire.send)
    assert wire.status == 200


async def test_a_body_that_trickles_is_given_up(client: ScriptedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "FIRST_BYTE_S", 0.01)
    wire = Wire("/chat", method="POST")
    await create_app(client)(wire.scope, wire.receive, wire.send)
    assert (wire.status, json.loads(wire.body)["type"]) == (408, "urn:rayflow:problem:body-too-slow")


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/v1/nope", 404, "not-found", None),
        ("GET", COMPLETIONS, 405, "method-not-allowed", "POST"),
        ("DELETE", "/v1/models", 405, "method-not-allowed", "GET"),
        ("GET", "/v1/models/nope", 404, "model_not_found", None),
    ],
)
async def test_unknown_paths_and_methods_under_v1_have_openai_errors(
    http: httpx2.AsyncClient, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"], answer.headers.get("allow")) == (status, code, allow)


@pytest.mark.parametrize(
    ("method", "path", "status", "slug", "allow"),
    [
        ("GET", "/", 404, "not-found", None),
        ("GET", "/chat/", 404, "not-found", None),
        ("GET", "/chat", 405, "method-not-allowed", "POST"),
        ("PUT", "/sessions/a", 405, "method-not-allowed", "DELETE, GET, PATCH"),
        ("GET", "/sessions/a/history?limit=x", 400, "invalid-request", None),
        ("GET", "/sessions/a/history?limit=1001", 400, "invalid-request", None),
        ("GET", "/sessions/a/history?after=-1", 400, "invalid-request", None),
        ("GET", "/sessions/%20", 400, "invalid-request", None),
        ("GET", "/sessions/unknown", 404, "not-found", None),
        ("DELETE", "/sessions/unknown", 404, "not-found", None),
        ("PATCH", "/sessions/unknown", 404, "not-found", None),
        ("POST", "/sessions/unknown/close", 404, "not-found", None),
        ("GET", "/users/a", 405, "method-not-allowed", "DELETE"),
        ("DELETE", "/users/%20", 400, "invalid-request", None),
        ("GET", "/sessions?limit=0", 400, "invalid-request", None),
        ("GET", "/sessions?user_id=%20", 400, "invalid-request", None),
        ("GET", "/sessions?cursor=nonsense", 400, "invalid-request", None),
    ],
)
async def test_unknown_paths_and_methods_elsewhere_are_problems(
    http: httpx2.AsyncClient, method: str, path: str, status: int, slug: str, allow: str | None
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:rayflow:problem:{slug}")
    assert answer.headers.get("allow") == allow


async def test_a_refusal_does_not_repeat_a_long_name(http: httpx2.AsyncClient) -> None:
    for name in ("x" * 100_000, " - at `$" * 10_000):
        answer = await http.post(COMPLETIONS, content=ask(**{name: 1}), headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert len(answer.content) < 1_000
