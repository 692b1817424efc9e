"""Sessions over HTTP."""

from __future__ import annotations

import httpx2
from api_doubles import ScriptedClient


async def test_a_session_is_made_looked_at_and_deleted(http: httpx2.AsyncClient) -> None:
    body = {"session_id": "s-1", "user_id": "ann", "metadata": {"plan": {"tier": 2}}}
    made = await http.post("/sessions", json=body)
    session = {
        "session_id": "s-1",
        "user_id": "ann",
        "title": "",
        "created_at": "2026-09-21T14:13:20.123Z",
        "updated_at": "2026-09-21T14:13:20.123Z",
        "turns": 0,
        "metadata": {"plan": {"tier": 2}},
        "version": 1,
        "closed_at": None,
        "parent_conversation_id": None,
        "branch_id": None,
        "forked_at": None,
    }
    assert (made.status_code, made.headers["location"], made.json()) == (201, "/sessions/s-1", session)
    assert (await http.get("/sessions/s-1")).json() == session
    gone = await http.delete("/sessions/s-1")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await http.get("/sessions/s-1")).status_code == 404


async def test_an_id_is_made_where_none_is_given(http: httpx2.AsyncClient) -> None:
    for answer in (await http.post("/sessions"), await http.post("/sessions", json={})):
        assert answer.status_code == 201
        assert answer.json()["session_id"].startswith("sess_")
        assert answer.headers["x-session-id"] == answer.json()["session_id"]


async def test_an_id_that_is_taken_is_a_conflict_not_to_be_retried(http: httpx2.AsyncClient) -> None:
    await http.post("/sessions", json={"session_id": "s-1"})
    again = await http.post("/sessions", json={"session_id": "s-1"})
    assert (again.status_code, again.json()["type"]) == (409, "urn:rayflow:problem:conflict")
    assert again.headers["x-should-retry"] == "false"


async def test_history_comes_in_pages_oldest_first(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.keep("s-1", "hi", "hello", "bye")
    page = (await http.get("/sessions/s-1/history", params={"limit": 2})).json()
    assert page["session"]["turns"] == 3
    assert [(turn["seq"], turn["role"], turn["content"]) for turn in page["turns"]] == [
        (1, "user", "hi"),
        (2, "assistant", "hello"),
    ]
    assert page["next_after"] == 2
    rest = (await http.get("/sessions/s-1/history", params={"limit": 2, "after": 2})).json()
    assert [turn["content"] for turn in rest["turns"]] == ["bye"]
    assert rest["next_after"] is None


async def test_an_id_with_a_slash_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/sessions", json={"session_id": "team/7"})
    assert answer.status_code == 400


async def test_a_broken_session_request_makes_nothing(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    for body in ({"session_id": "a b"}, {"user_id": ""}, {"metadata": []}, {"id": "x"}, []):
        assert (await http.post("/sessions", json=body)).status_code == 400
    assert (await http.post("/sessions", content=b"{}")).status_code == 415
    assert client.sessions == {}
