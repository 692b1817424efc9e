"""Sessions over HTTP, on real stores of two shards: lists, changes, forks, ends; and nobody sees another's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from api_doubles import NOW_US, ScriptedClient, config, in_memory
from hypothesis import given
from hypothesis import strategies as st

from rayflow.actors.outbox import Outbox
from rayflow.actors.sessions import Sessions
from rayflow.api.http import create_app
from rayflow.api.session_shapes import cursor_of, position_of
from rayflow.app.client import SystemClient
from rayflow.chat import Message, Usage
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ValidationError
from rayflow.messages import AppendTurns, CreateSession, Position
from rayflow.policies.placement import owner
from rayflow.stores.memory import MemoryStore

ACME, GLOBEX = "rf_key_of_acme", "rf_key_of_globex"
TENANTS = [{"name": "acme", "api_keys": [ACME]}, {"name": "globex", "api_keys": [GLOBEX]}]


class StoringClient(ScriptedClient):
    """Its sessions are in two real stores."""

    def __init__(self, config: WorkflowConfig) -> None:
        super().__init__(config)
        self.clock = ManualClock(wall_us=NOW_US)
        self.fabric = InProcessFabric()
        for address in ("session/0", "session/1"):
            actor = Sessions(address, MemoryStore(1000), Outbox(self.fabric, enabled=False), self.clock)
            self.fabric.bind(address, actor.handlers)
        real = SystemClient(self.fabric, "client/test", config)
        self.session = real.session  # type: ignore[method-assign, assignment]
        self.shards = real.shards
        self.users = real.users

    async def append(self, session: str, *texts: str, tenant: str = "", **more: Any) -> None:
        roles = ("user", "assistant")
        messages = [Message(roles[i % 2], text) for i, text in enumerate(texts)]
        shard = owner(session, self.shards.addresses)
        await self.fabric.ask(shard, AppendTurns(tenant, session, messages, **more), 1.0)


@pytest.fixture
def client() -> StoringClient:
    return StoringClient(config(session={"shards": 2}))


@pytest.fixture
async def http(client: StoringClient) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_memory(create_app(client)) as http:
        yield http


async def listed(http: httpx2.AsyncClient, **query: Any) -> list[str]:
    """All pages."""
    found: list[str] = []
    while True:
        page = (await http.get("/sessions", params=query)).json()
        found += [session["session_id"] for session in page["sessions"]]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
async def test_a_list_has_every_session_of_all_shards_once_the_newest_first(
    client: StoringClient, http: httpx2.AsyncClient, limit: int
) -> None:
    for i in range(8):
        await http.post("/sessions", json={"session_id": f"s{i}", "user_id": "ann" if i % 2 else "bob"})
        client.clock.advance(0 if i in (3, 4) else 1)
    assert await listed(http, limit=limit) == ["s7", "s6", "s5", "s4", "s3", "s2", "s1", "s0"]
    assert await listed(http, limit=limit, user_id="ann") == ["s7", "s5", "s3", "s1"]
    assert await listed(http, limit=limit, user_id="eve") == []


async def test_sessions_that_begin_while_a_list_is_read_do_not_disturb_it(
    client: StoringClient, http: httpx2.AsyncClient
) -> None:
    for i in range(4):
        await http.post("/sessions", json={"session_id": f"s{i}"})
        client.clock.advance(1)
    first = (await http.get("/sessions", params={"limit": 2})).json()
    await http.post("/sessions", json={"session_id": "new"})
    await client.append("s0", "hi")
    rest = (await http.get("/sessions", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [s["session_id"] for s in first["sessions"] + rest["sessions"]] == ["s3", "s2", "s1", "s0"]


async def test_title_and_metadata_are_changed_where_the_version_is_the_one_read(http: httpx2.AsyncClient) -> None:
    made = (await http.post("/sessions", json={"session_id": "s", "title": "A", "metadata": {"a": 1, "b": 2}})).json()
    assert (made["title"], made["version"]) == ("A", 1)
    changed = await http.patch("/sessions/s", json={"title": "B", "metadata": {"a": None, "c": 3}, "version": 1})
    assert (changed.status_code, changed.json()["metadata"], changed.json()["version"]) == (200, {"b": 2, "c": 3}, 2)
    late = await http.patch("/sessions/s", json={"title": "C", "version": 1})
    assert (late.status_code, late.json()["type"], late.json()["version"]) == (409, "urn:rayflow:problem:conflict", 2)
    assert (await http.get("/sessions/s")).json()["title"] == "B"
    for body in ({"title": 3}, {"metadata": []}, {"version": 0}, {"user_id": "x"}, [], {"title": "x" * 501}):
        assert (await http.patch("/sessions/s", json=body)).status_code == 400


async def test_a_fork_is_a_session_of_its_own(client: StoringClient, http: httpx2.AsyncClient) -> None:
    for parent in ("s0", "s1", "s2"):
        await client.append(parent, "q", "a", "q2", "a2", user_id="ann")
        made = await http.post(f"/sessions/{parent}/fork", json={"at": 2, "branch_id": "other way"})
        child = made.json()
        assert (made.status_code, made.headers["location"]) == (201, f"/sessions/{child['session_id']}")
        assert made.headers["x-session-id"] == child["session_id"]
        assert (child["parent_conversation_id"], child["forked_at"], child["branch_id"]) == (parent, 2, "other way")
        await client.append(child["session_id"], "else")
        page = (await http.get(f"/sessions/{child['session_id']}/history")).json()
        assert [turn["content"] for turn in page["turns"]] == ["q", "a", "else"]
    assert (await http.post("/sessions/s0/fork")).json()["turns"] == 4
    assert (await http.post("/sessions/s0/fork", json={"at": 0})).json()["turns"] == 0
    beyond = await http.post("/sessions/s0/fork", json={"at": 5})
    assert (beyond.status_code, beyond.json()["param"]) == (400, "at")
    assert (await http.post("/sessions/s0/fork", json={"at": -1})).status_code == 400
    assert (await http.post("/sessions/none/fork")).status_code == 404


async def test_a_closed_session_says_since_when(client: StoringClient, http: httpx2.AsyncClient) -> None:
    await client.append("s", "q")
    closed = await http.post("/sessions/s/close")
    assert (closed.status_code, closed.json()["closed_at"]) == (200, "2026-09-21T14:13:20.123Z")
    assert (await http.post("/sessions/s/close")).json() == closed.json()
    assert (await http.get("/sessions/s/history")).json()["turns"][0]["content"] == "q"


async def test_a_turn_that_was_cut_says_so_and_what_it_cost(client: StoringClient, http: httpx2.AsyncClient) -> None:
    await client.append("s", "q")
    await client.append("s", "half an ans", partial=True, usage=Usage(7, 3, True))
    first, cut = (await http.get("/sessions/s/history")).json()["turns"]
    assert (first["status"], first["usage"]) == ("complete", None)
    assert (cut["status"], cut["usage"]) == (
        "partial",
        {"prompt_tokens": 7, "completion_tokens": 3, "estimated": True},
    )


async def test_a_user_is_erased_from_every_shard(http: httpx2.AsyncClient) -> None:
    for i in range(6):
        await http.post("/sessions", json={"session_id": f"s{i}", "user_id": "ann" if i else "bob"})
    gone = await http.delete("/users/ann")
    assert (gone.status_code, gone.json()) == (200, {"user_id": "ann", "sessions": 5, "memories": 0, "preferences": 0})
    assert (await http.delete("/users/ann")).json()["sessions"] == 0
    assert await listed(http) == ["s0"]


async def test_of_another_tenants_sessions_nothing_can_be_seen_or_done() -> None:
    """Two tenants with the same ids and users: neither sees a byte of the other."""
    client = StoringClient(config(session={"shards": 2}, tenants=TENANTS))
    async with in_memory(create_app(client)) as http:

        async def ask(method: str, path: str, key: str, body: Any = None) -> httpx2.Response:
            return await http.request(method, path, headers={"authorization": f"Bearer {key}"}, json=body)

        for tenant in ("acme", "globex"):
            make = CreateSession(tenant, "same", "ann", {"of": tenant}, f"{tenant} title")
            await client.session(make)
            await client.append("same", f"{tenant} question", f"{tenant} answer", tenant=tenant)
        await client.session(CreateSession("acme", "mine", "ann"))

        for path in ("/sessions", "/sessions?user_id=ann", "/sessions/same", "/sessions/same/history"):
            seen = await ask("GET", path, GLOBEX)
            assert (seen.status_code, b"acme" in seen.content, b"mine" in seen.content) == (200, False, False)
        refused = [
            await ask("GET", "/sessions/mine", GLOBEX),
            await ask("GET", "/sessions/mine/history", GLOBEX),
            await ask("PATCH", "/sessions/mine", GLOBEX, {"title": "x"}),
            await ask("POST", "/sessions/mine/fork", GLOBEX),
            await ask("POST", "/sessions/mine/close", GLOBEX),
            await ask("DELETE", "/sessions/mine", GLOBEX),
        ]
        unknown = await ask("GET", "/sessions/none", GLOBEX)
        told = {(answer.status_code, answer.text.replace("mine", "none")) for answer in refused}
        assert {status for status, _ in told} == {404}
        assert refused[0].json()["detail"].replace("mine", "none") == unknown.json()["detail"]

        assert (await ask("DELETE", "/users/ann", GLOBEX)).json()["sessions"] == 1
        assert (await ask("GET", "/sessions/same", GLOBEX)).status_code == 404
        kept = (await ask("GET", "/sessions/same", ACME)).json()
        assert (kept["title"], kept["metadata"], kept["turns"]) == ("acme title", {"of": "acme"}, 2)
        first = (await ask("GET", "/sessions?limit=1", ACME)).json()
        assert first["sessions"][0]["session_id"] in ("mine", "same")
        theirs = await ask("GET", f"/sessions?cursor={first['next_cursor']}", GLOBEX)
        assert theirs.json()["sessions"] == [], "another tenant's cursor is a place, not a permission"


@given(st.integers(0, 10**18 - 1), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,254}", fullmatch=True))
def test_a_cursor_leads_back_to_its_place(us: int, session_id: str) -> None:
    cursor = cursor_of(Position(us, session_id))
    assert "=" not in cursor
    assert position_of(cursor) == Position(us, session_id)


@given(st.text())
def test_any_other_cursor_is_refused(cursor: str) -> None:
    try:
        place = position_of(cursor)
    except ValidationError as error:
        assert error.details["param"] == "cursor"
    else:
        assert position_of(cursor_of(place)) == place
