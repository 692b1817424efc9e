"""POST /v1/chat/completions: what becomes of a request, and the exact shape of its answers."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from api_doubles import KEY, NOW_US, ScriptedClient, config, in_memory, result, routed, tokens, tool_result

from rayflow.api.http import create_app
from rayflow.chat import Message, ModelParams
from rayflow.errors import ExecutionError, ModelTimeout, Overloaded
from rayflow.messages import RunRequest

COMPLETIONS = "/v1/chat/completions"
ASK = {"model": "team", "messages": [{"role": "user", "content": "hi"}]}
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "get_order", "arguments": '{"id": 7}'}}


def chunks(answer: httpx2.Response) -> list[Any]:
    """The data of all events; the last one is "[DONE]" as text."""
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_the_json_answer_has_openai_s_shape(http: httpx2.AsyncClient) -> None:
    answer = await http.post(COMPLETIONS, json=ASK)
    run_id = answer.headers["x-request-id"]
    assert answer.json() == {
        "id": f"chatcmpl-{run_id}",
        "object": "chat.completion",
        "created": NOW_US // 1_000_000,
        "model": "team",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


async def test_tool_calls_are_in_the_json_answer(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.script = lambda run: [tool_result(run)]
    choice = (await http.post(COMPLETIONS, json=ASK)).json()["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None, "tool_calls": [TOOL_CALL]}
    assert choice["finish_reason"] == "tool_calls"


async def test_a_stream_is_role_content_finish_done(http: httpx2.AsyncClient) -> None:
    answer = await http.post(COMPLETIONS, json={**ASK, "stream": True})
    *given, done = chunks(answer)
    assert done == "[DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in given] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello"},
        {"content": " there."},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in given] == [None, None, None, "stop"]
    assert {chunk["id"] for chunk in given} == {f"chatcmpl-{answer.headers['x-request-id']}"}
    assert {chunk["object"] for chunk in given} == {"chat.completion.chunk"}
    assert all("usage" not in chunk for chunk in given)


async def test_stream_headers_forbid_caching(http: httpx2.AsyncClient) -> None:
    answer = await http.post(COMPLETIONS, json={**ASK, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["connection"] == "keep-alive"


async def test_include_usage_adds_one_chunk_and_a_null_to_all_others(http: httpx2.AsyncClient) -> None:
    body = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
    *given, usage, done = chunks(await http.post(COMPLETIONS, json=body))
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]) == ([], USAGE)
    assert [chunk["usage"] for chunk in given] == [None] * 4


async def test_tool_calls_are_streamed_as_one_delta(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.script = lambda run: [tool_result(run)]
    given = chunks(await http.post(COMPLETIONS, json={**ASK, "stream": True}))
    assert given[1]["choices"][0]["delta"] == {"tool_calls": [{"index": 0, **TOOL_CALL}]}
    assert given[2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_text_that_was_not_streamed_follows_with_the_result(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    client.script = lambda run: [*tokens(run, "Hel"), result(run)]
    given = chunks(await http.post(COMPLETIONS, json={**ASK, "stream": True}))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in given[:-1]) == "Hello there."


async def test_a_joined_answer_arrives_whole(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.script = lambda run: [routed(run), result(run, "both", streamed="", agents=["billing", "facts"])]
    given = chunks(await http.post(COMPLETIONS, json={**ASK, "stream": True}))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in given[:-1]] == ["", "both", None]


async def test_a_stream_that_differs_from_its_answer_ends_with_an_error(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    client.script = lambda run: [*tokens(run, "Good"), result(run)]
    last = chunks(await http.post(COMPLETIONS, json={**ASK, "stream": True}))[-1]
    assert last["error"]["code"] == "execution-failed"


async def test_an_error_within_a_stream_is_an_error_event_without_done(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    client.script = lambda run: [*tokens(run, "Hel"), ModelTimeout("the model is silent", phase="between_tokens")]
    answer = await http.post(COMPLETIONS, json={**ASK, "stream": True})
    error = {"message": "the model is silent", "type": "server_error", "param": None, "code": "model-timeout"}
    assert answer.status_code == 200
    assert chunks(answer)[-1] == {"error": error}


async def test_an_error_before_the_first_token_keeps_its_status(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    client.script = lambda run: [Overloaded("the queue is full", retry_after_s=1.2)]
    answer = await http.post(COMPLETIONS, json={**ASK, "stream": True})
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("2", "1200")


async def test_an_unexpected_error_tells_nothing_of_itself(
    client: ScriptedClient, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    for script in (lambda run: [RuntimeError("s3cret")], lambda run: [*tokens(run, "Hel"), RuntimeError("s3cret")]):
        client.script = script
        answer = await http.post(COMPLETIONS, json={**ASK, "stream": True})
        assert "s3cret" not in answer.text
        assert "internal-error" in answer.text
        assert answer.headers["x-request-id"] in caplog.text
    assert "s3cret" in caplog.text


async def test_the_request_becomes_a_run(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    body = {
        "model": "team",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL], "refusal": None, "annotations": []},
            {"role": "tool", "content": "shipped", "tool_call_id": "call_1"},
            {"role": "user", "content": [{"type": "text", "text": "so?"}, {"type": "image_url", "image_url": {}}]},
        ],
        "temperature": 0,
        "stop": "END",
        "max_completion_tokens": 50,
        "logprobs": True,
        "tools": [{"type": "function", "function": {"name": "get_order"}}],
        "tool_choice": "auto",
        "user": "ann@example.com",
        "metadata": {"session_id": "s-1", "shop": "berlin"},
        "store": True,
        "service_tier": "auto",
        "safety_identifier": "x",
        "prompt_cache_key": "k",
        "n": 1,
    }  # fmt: skip
    answer = await http.post(COMPLETIONS, json=body, headers={"X-Timeout-S": "7.5"})
    assert answer.status_code == 200
    [run] = client.runs
    assert (run.session_id, run.new_session, run.user_id, run.channel) == ("s-1", False, "ann@example.com", "chat")
    assert run.instructions == "Be brief.\n\nBe kind."
    assert [message.role for message in run.messages] == ["user", "assistant", "tool", "user"]
    assert run.messages[0] == Message("user", "hi", name="ann")
    assert run.metadata == {"shop": "berlin"}
    assert run.params == ModelParams(
        temperature=0.0, stop=["END"], max_completion_tokens=50, logprobs=True, tools=body["tools"],
        tool_choice="auto", user="ann@example.com",
    )  # fmt: skip
    assert (run.agent, run.stream, run.progress, run.client) == ("", False, False, "")
    assert client.timeouts == [7.5]
    assert answer.headers["x-request-id"] == run.run_id


async def test_a_streamed_run_asks_for_its_tokens(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    await http.post(COMPLETIONS, json={**ASK, "stream": True})
    assert (client.runs[0].stream, client.runs[0].client, client.runs[0].progress) == (True, client.address, False)


@pytest.mark.parametrize(
    ("model", "agent", "shown"), [("team", "", "team"), ("auto", "", "team"), ("facts", "facts", "facts")]
)
async def test_the_model_chooses_the_workflow_or_an_agent(
    client: ScriptedClient, http: httpx2.AsyncClient, model: str, agent: str, shown: str
) -> None:
    answer = await http.post(COMPLETIONS, json={**ASK, "model": model})
    assert (client.runs[0].agent, answer.json()["model"]) == (agent, shown)


async def test_the_session_of_the_header_is_used_and_echoed(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    answer = await http.post(COMPLETIONS, json=ASK, headers={"X-Session-Id": "s-1"})
    assert (client.runs[0].session_id, client.runs[0].new_session) == ("s-1", False)
    assert answer.headers["x-session-id"] == "s-1"


async def test_a_session_is_made_where_none_is_named(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    first, second = [(await http.post(COMPLETIONS, json=ASK)).headers["x-session-id"] for _ in range(2)]
    assert first != second
    assert first.startswith("sess_")
    assert [(run.session_id, run.new_session) for run in client.runs] == [(first, True), (second, True)]


async def test_the_session_is_told_even_when_the_run_fails(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.script = lambda run: [ExecutionError("no")]
    assert (await http.post(COMPLETIONS, json=ASK)).headers["x-session-id"] == client.runs[0].session_id


async def test_two_different_sessions_in_one_request_are_refused(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    body = {**ASK, "metadata": {"session_id": "a"}}
    assert (await http.post(COMPLETIONS, json=body, headers={"X-Session-Id": "b"})).status_code == 400
    assert client.runs == []


async def test_the_result_of_an_earlier_turn_s_tool_call_is_taken_in_a_known_session(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    body = {"model": "team", "messages": [{"role": "tool", "content": "7", "tool_call_id": "c1"}]}
    assert (await http.post(COMPLETIONS, json=body)).status_code == 400
    assert (await http.post(COMPLETIONS, json=body, headers={"X-Session-Id": "s"})).status_code == 200
    assert client.runs[0].messages[0].tool_call_id == "c1"


async def test_length_limits_follow_the_configuration() -> None:
    long = {"model": "team", "messages": [{"role": "user", "content": "x" * 20_000}]}
    for processing, status in (
        ({"input_validation": False}, 200),
        ({"max_length": 30_000}, 200),
        ({"max_length": 19_999}, 400),
    ):
        client = ScriptedClient(config(processing=processing))
        async with in_memory(create_app(client)) as http:
            assert (await http.post(COMPLETIONS, json=long)).status_code == status


async def test_a_run_keeps_only_what_the_client_may_say(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    await http.post(COMPLETIONS, json=ASK, headers={"Authorization": f"Bearer {KEY}"})
    run: RunRequest = client.runs[0]
    assert KEY not in repr(run)
    assert run.tenant == ""
