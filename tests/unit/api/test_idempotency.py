"""`Idempotency-Key`: the same request, wherever it comes in, is the same run in the same session."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from api_doubles import KEY, ScriptedClient, config, in_memory

from rayflow.api.http import create_app
from rayflow.errors import KeyReused, PoisonMessage
from rayflow.ids import new_run_id, new_session_id

CHAT = ("/chat", {"message": "hi"})
COMPLETIONS = ("/v1/chat/completions", {"model": "team", "messages": [{"role": "user", "content": "hi"}]})

both_routes = pytest.mark.parametrize(("path", "body"), [CHAT, COMPLETIONS], ids=["native", "openai"])


def shape(text: str) -> str:
    return re.sub("[0-9a-f]", "0", text.partition("_")[2])


@both_routes
async def test_the_same_key_is_the_same_run_in_every_ingress_process(path: str, body: dict[str, Any]) -> None:
    seen = []
    for _ in range(2):
        client = ScriptedClient(config())
        async with in_memory(create_app(client)) as http:
            answer = await http.post(path, json=body, headers={"Idempotency-Key": "order-7"})
        (run,) = client.runs
        assert answer.headers["x-request-id"] == run.run_id
        assert answer.headers["x-session-id"] == run.session_id
        seen.append((run.run_id, run.session_id, run.repeatable, run.new_session))
    assert seen[0] == seen[1]
    assert shape(seen[0][0]) == shape(new_run_id())
    assert shape(seen[0][1]) == shape(new_session_id())


@both_routes
async def test_without_a_key_every_request_is_a_run_of_its_own(
    client: ScriptedClient, http: httpx2.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    for _ in range(2):
        await http.post(path, json=body)
    first, second = client.runs
    assert first.run_id != second.run_id
    assert not first.repeatable


async def test_key_session_and_credentials_tell_runs_apart(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    path, body = CHAT
    for headers in (
        {"Idempotency-Key": "one"},
        {"Idempotency-Key": "two"},
        {"Idempotency-Key": "one", "X-Session-Id": "s1"},
        {"Idempotency-Key": "one", "X-Session-Id": "s2"},
        {"Idempotency-Key": "one", "X-API-Key": "somebody"},
        {"Idempotency-Key": "one", "Authorization": "Bearer else"},
    ):
        await http.post(path, json=body, headers=headers)
    assert len({run.run_id for run in client.runs}) == 6
    assert [run.session_id for run in client.runs[2:4]] == ["s1", "s2"]


async def test_both_headers_of_one_credential_make_the_same_run() -> None:
    client = ScriptedClient(config(security={"api_keys": [KEY]}))
    path, body = CHAT
    async with in_memory(create_app(client)) as http:
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}):
            await http.post(path, json=body, headers={"Idempotency-Key": "one", **headers})
    first, second = client.runs
    assert first.run_id == second.run_id
    assert KEY not in first.run_id + first.session_id


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "t\tab", "grün", "nul\x7f"])
async def test_a_key_that_is_none_is_refused(client: ScriptedClient, http: httpx2.AsyncClient, key: str) -> None:
    path, body = CHAT
    answer = await http.post(path, json=body, headers=[("Idempotency-Key", key.encode("latin-1"))])
    assert (answer.status_code, answer.json()["param"]) == (400, "idempotency-key")
    assert not client.runs


async def test_the_longest_key_is_taken(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    path, body = CHAT
    assert (await http.post(path, json=body, headers={"Idempotency-Key": "~" * 255})).status_code == 200


async def test_two_keys_are_one_too_many(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    path, body = CHAT
    answer = await http.post(path, json=body, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:rayflow:problem:headers-invalid")


@pytest.mark.parametrize("error", [KeyReused("another body"), PoisonMessage("it kills", replicas=["agent/a/0"])])
async def test_what_will_never_succeed_says_so(
    client: ScriptedClient, http: httpx2.AsyncClient, error: KeyReused | PoisonMessage
) -> None:
    client.script = lambda _: [error]
    path, body = COMPLETIONS
    answer = await http.post(path, json=body, headers={"Idempotency-Key": "one"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, error.slug)
    assert answer.headers["x-should-retry"] == "false"
