"""POST /chat: JSON, the event stream, and errors within a stream."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from api_doubles import ScriptedClient, result, routed, tokens

from rayflow.chat import Message, ModelParams
from rayflow.errors import ModelIncomplete

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "estimated": False}


def events(answer: httpx2.Response) -> list[tuple[str, Any]]:
    """(id, data) of all events; "[DONE]" stays text."""
    found = []
    for block in answer.text.split("\n\n"):
        if block:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            data = fields["data"]
            found.append((fields.get("id", ""), data if data == "[DONE]" else json.loads(data)))
    return found


async def test_the_json_answer_says_who_answered_at_what_cost(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    answer = await http.post("/chat", json={"message": "hi", "conversation_id": "c-1"})
    assert answer.json() == {
        "content": "Hello there.",
        "conversation_id": "c-1",
        "run_id": answer.headers["x-request-id"],
        "agents": ["billing"],
        "usage": USAGE,
        "metrics": {
            "duration_ms": 12.5,
            "parts": [
                {"agent": "billing", "status": "ok", "duration_ms": 11.0, "ttft_ms": 3.0,
                 "prompt_tokens": 12, "completion_tokens": 5, "error": ""},
            ],
        },
        "metadata": {"workflow": "team", "model": "upstream-model", "finish_reason": "stop", "strategy": "keyword",
                     "confidence": 1.0, "turn": 2, "data": {}},
    }  # fmt: skip
    assert answer.headers["x-session-id"] == "c-1"


async def test_the_request_becomes_a_run(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    body = {
        "message": "hi",
        "session_id": "c-1",
        "conversation_id": "c-1",
        "user_id": "ann",
        "agent": "facts",
        "temperature": 0.5,
        "max_tokens": 9,
        "system_prompt_override": "Be brief.",
        "metadata": {"shop": "berlin"},
        "profile_id": None,
    }
    assert (await http.post("/chat", json=body)).status_code == 200
    [run] = client.runs
    assert run.messages == [Message("user", "hi")]
    assert (run.session_id, run.new_session, run.user_id, run.agent) == ("c-1", False, "ann", "facts")
    assert (run.channel, run.system_prompt, run.metadata) == ("native", "Be brief.", {"shop": "berlin"})
    assert run.params == ModelParams(temperature=0.5, max_tokens=9)
    assert (run.stream, run.progress, run.client) == (False, False, "")


async def test_a_stream_tells_progress_tokens_usage_and_end(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.script = lambda run: [routed(run), *tokens(run, "Hello", " there."), result(run)]
    answer = await http.post("/chat", json={"message": "hi", "stream": True, "session_id": "c-1"})
    usage = {"workflow_type": "team", "full_content": "Hello there.", "conversation_id": "c-1", "agents": ["billing"],
             "run_id": answer.headers["x-request-id"], "finish_reason": "stop", **USAGE}  # fmt: skip
    assert events(answer) == [
        ("2", {"type": "event", "event": "run.routed", "strategy": "keyword", "confidence": 0.8}),
        ("3", {"type": "token", "content": "Hello", "node": "billing"}),
        ("4", {"type": "token", "content": " there.", "node": "billing"}),
        ("9", {"type": "usage", "usage": usage}),
        ("", {"type": "end"}),
        ("", "[DONE]"),
    ]
    assert (client.runs[0].stream, client.runs[0].progress, client.runs[0].client) == (True, True, client.address)


async def test_a_joined_answer_follows_the_parts_as_a_node_of_its_own(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    client.script = lambda run: [
        *tokens(run, "one", agent="billing"),
        *tokens(run, "two", agent="facts"),
        result(run, "one and two", streamed="", agents=["billing", "facts"]),
    ]
    given = events(await http.post("/chat", json={"message": "hi", "stream": True}))
    said = [(data["node"], data["content"]) for _, data in given[:3]]
    assert said == [("billing", "one"), ("facts", "two"), ("aggregator", "one and two")]


async def test_a_lost_token_is_made_up_for(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.script = lambda run: [*tokens(run, "Hello"), result(run)]
    given = events(await http.post("/chat", json={"message": "hi", "stream": True}))
    assert [data["content"] for _, data in given[:2]] == ["Hello", " there."]


async def test_an_error_within_a_stream_is_an_error_event(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.script = lambda run: [*tokens(run, "Hel"), ModelIncomplete("the answer broke off", partial="Hel")]
    answer = await http.post("/chat", json={"message": "hi", "stream": True})
    _, last = events(answer)[-1]
    assert last["type"] == "error"
    assert (last["error"]["type"], last["error"]["status"]) == ("urn:rayflow:problem:model-incomplete", 502)
    assert last["error"]["instance"] == answer.headers["x-request-id"]
    assert "[DONE]" not in answer.text
