"""The standalone endpoint, spoken to without a socket."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from rayflow.api.model_faults import Behaviour
from rayflow.api.model_server import MAX_BODY_BYTES, ModelServer, listen
from rayflow.errors import Unavailable
from rayflow.models.offline import tokens

HELLO = {"model": "offline", "messages": [{"role": "user", "content": "Hello"}]}


async def call(
    body: object = None, path: str = "/v1/chat/completions", method: str = "POST", behaviour: Behaviour | None = None
) -> httpx2.Response:
    transport = httpx2.ASGITransport(ModelServer(behaviour).app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.request(method, path, content=content)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"\xff", None),
        ([], None),
        ({}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": [{"content": "x"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({**HELLO, "max_tokens": "many"}, "max_tokens"),
        ({**HELLO, "stream": "yes"}, "stream"),
        ({**HELLO, "n": 2}, "n"),
        ({**HELLO, "tools": [{"type": "function"}]}, "tools[0].function.name"),
        ({**HELLO, "tools": [{"function": {"name": "f"}}], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
    ],
)
async def test_a_bad_request_is_refused_in_openais_shape(body: object, param: str | None) -> None:
    answer = await call(body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]


async def test_a_body_too_large_is_refused() -> None:
    assert (await call(b" " * (MAX_BODY_BYTES + 1))).status_code == 413


async def test_unknown_paths_and_methods_have_openais_shape() -> None:
    for path, method, status in (("/v1/nothing", "GET", 404), ("/v1/chat/completions", "GET", 405)):
        answer = await call(path=path, method=method)
        assert answer.status_code == status
        assert answer.json()["error"]["message"]


async def test_health_and_models_are_served() -> None:
    assert (await call(path="/healthz", method="GET")).json() == {"status": "ok"}
    [model] = (await call(path="/v1/models", method="GET")).json()["data"]
    assert (model["id"], model["object"]) == ("offline", "model")
    assert "not a language model" in model["description"]


@pytest.mark.parametrize("length", [1, 5, 64, 500])
async def test_answers_can_have_a_fixed_length(length: int) -> None:
    answer = (await call(HELLO, behaviour=Behaviour(output_tokens=length))).json()
    assert answer["usage"]["completion_tokens"] == length
    assert tokens.count(answer["choices"][0]["message"]["content"]) == length
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_a_requests_own_limit_holds_against_a_fixed_length() -> None:
    answer = (await call({**HELLO, "max_tokens": 3}, behaviour=Behaviour(output_tokens=64))).json()
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "length"


def events(answer: httpx2.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_usage_comes_in_a_chunk_of_its_own_where_it_is_asked_for() -> None:
    chunks = events(await call({**HELLO, "stream": True, "stream_options": {"include_usage": True}}))
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 1
    assert not any("usage" in chunk for chunk in events(await call({**HELLO, "stream": True})))


async def test_a_paced_stream_says_the_same_as_one_without_pace() -> None:
    def text(chunks: list[dict[str, Any]]) -> str:
        return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)

    streamed = {**HELLO, "stream": True}
    paced = await call(streamed, behaviour=Behaviour(ttft_ms=1, tokens_per_s=10_000))
    assert text(events(paced)) == text(events(await call(streamed)))


async def test_injected_errors_have_their_status_and_retry_after() -> None:
    assert (await call(HELLO, behaviour=Behaviour(error_rate=1))).status_code == 500
    limited = await call(HELLO, behaviour=Behaviour(rate_limit_rate=1))
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "1")


def test_an_address_in_use_is_refused_with_advice() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(Unavailable, match="choose another --port"):
        listen("127.0.0.1", taken.getsockname()[1])


async def test_texts_become_vectors_of_hashed_words() -> None:
    answer = await call({"model": "any", "input": ["my dog", "my dog", ""]}, "/v1/embeddings")
    said = answer.json()
    assert (said["object"], said["model"]) == ("list", "any")
    assert [entry["index"] for entry in said["data"]] == [0, 1, 2]
    first, second, empty = (entry["embedding"] for entry in said["data"])
    assert first == second != empty and said["usage"]["total_tokens"] > 0
    alone = await call({"model": "any", "input": "my dog"}, "/v1/embeddings")
    assert alone.json()["data"][0]["embedding"] == first


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "m"}, "input"),
        ({"input": "x"}, "model"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": [1]}, "input[0]"),
        ({"model": "m", "input": ["x"] * 3000}, "input"),
        ({"model": "m", "input": "x", "encoding_format": "base64"}, "encoding_format"),
    ],
)
async def test_a_bad_embeddings_request_is_refused(body: object, param: str) -> None:
    answer = await call(body, "/v1/embeddings")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_embeddings_have_the_faults_of_the_server() -> None:
    body = {"model": "m", "input": "x"}
    assert (await call(body, "/v1/embeddings", behaviour=Behaviour(error_rate=1.0))).status_code == 500
    assert (await call(body, "/v1/embeddings", behaviour=Behaviour(rate_limit_rate=1.0))).status_code == 429
