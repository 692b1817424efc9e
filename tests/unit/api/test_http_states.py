"""Working states over HTTP, on real stores of two shards; and nobody sees another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from api_doubles import NOW_US, ScriptedClient, config, in_memory

from rayflow.actors.outbox import Outbox
from rayflow.actors.sessions import Sessions
from rayflow.api.http import create_app
from rayflow.app.client import SystemClient
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import WorkflowConfig
from rayflow.stores.memory import MemoryStore

ACME, GLOBEX = "rf_key_of_acme", "rf_key_of_globex"
TENANTS = [{"name": "acme", "api_keys": [ACME]}, {"name": "globex", "api_keys": [GLOBEX]}]
STATE = {
    "fields": [
        {"name": "stage", "enum": ["new", "paid"], "default": "new"},
        {"name": "count", "type": "integer", "reducer": "add"},
        {"name": "log", "type": "list", "reducer": "append"},
    ]
}


class StoringClient(ScriptedClient):
    """Its sessions are in two real stores."""

    def __init__(self, config: WorkflowConfig) -> None:
        super().__init__(config)
        fabric = InProcessFabric()
        for address in ("session/0", "session/1"):
            clock = ManualClock(wall_us=NOW_US)
            actor = Sessions(address, MemoryStore(1000), Outbox(fabric, enabled=False), clock)
            fabric.bind(address, actor.handlers)
        real = SystemClient(fabric, "client/test", config)
        self.session = real.session  # type: ignore[method-assign, assignment]
        self.shards = real.shards


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with in_memory(create_app(StoringClient(config(session={"shards": 2}, state=STATE)))) as http:
        for session in ("s", "a:b"):
            await http.post("/sessions", json={"session_id": session})
        yield http


async def patch(http: httpx2.AsyncClient, session: str = "s", **body: Any) -> httpx2.Response:
    return await http.patch(f"/sessions/{session}/state", json=body)


async def test_a_state_is_read_and_changed(http: httpx2.AsyncClient) -> None:
    before = (await http.get("/sessions/s/state")).json()
    assert before == {
        "session_id": "s",
        "version": 0,
        "schema_version": 1,
        "values": {"stage": "new", "count": None, "log": None},
        "misfits": [],
        "undeclared": [],
        "updated_at": None,
        "oldest_version": 0,
    }
    changed = await patch(http, update={"stage": "paid", "count": 2, "log": ["x"]}, version=0)
    assert changed.status_code == 200
    assert changed.json()["values"] == {"stage": "paid", "count": 2, "log": ["x"]}
    assert changed.json()["updated_at"] is not None
    await patch(http, update={"log": ["y", "z"]}, remove=["count"], keep_only={"log": 2})
    after = (await http.get("/sessions/s/state")).json()
    assert (after["version"], after["values"]) == (2, {"stage": "paid", "count": None, "log": ["y", "z"]})
    assert (await http.get("/sessions/s/state", params={"version": 1})).json()["values"] == changed.json()["values"]
    assert (await http.get("/sessions/a:b/state")).json()["version"] == 0


async def test_a_refused_update_names_its_field(http: httpx2.AsyncClient) -> None:
    for body, param in (
        ({"update": {"count": "x"}}, "update.count"),
        ({"update": {"stage": "sent"}}, "update.stage"),
        ({"replace": {"logs": []}}, "replace.logs"),
        ({"updat": {}}, "updat"),
        ({"keep_only": {"log": "x"}}, "keep_only[...]"),
        ({"version": -1}, "version"),
    ):
        answer = await patch(http, **body)
        assert (answer.status_code, answer.json()["param"]) == (400, param), answer.text
    assert (await http.get("/sessions/s/state")).json()["version"] == 0


async def test_an_old_version_is_a_conflict_that_says_the_present_one(http: httpx2.AsyncClient) -> None:
    await patch(http, update={"count": 1})
    refused = await patch(http, replace={"count": 5}, version=0)
    assert (refused.status_code, refused.json()["version"]) == (409, 1)
    assert refused.headers["x-should-retry"] == "false"
    assert (await patch(http, update={"count": 1}, version=0)).json()["values"]["count"] == 2


async def test_requests_at_the_same_moment_lose_nothing(http: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(patch(http, update={"count": 1, "log": [n]}) for n in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["version"] for answer in answers) == [*range(1, 11)]
    assert (await http.get("/sessions/s/state")).json()["values"]["count"] == 10


async def test_the_history_comes_in_pages_and_names_the_requests(http: httpx2.AsyncClient) -> None:
    answers = [await patch(http, update={"count": n}) for n in (1, 2, 3)]
    page = (await http.get("/sessions/s/state/history", params={"limit": 2})).json()
    assert [change["version"] for change in page["versions"]] == [3, 2]
    assert page["versions"][0]["by"] == answers[2].headers["x-request-id"]
    assert page["versions"][0]["changes"] == [{"field": "count", "at": None, "before": [3], "after": [6]}]
    rest = (await http.get("/sessions/s/state/history", params={"before": page["next_before"]})).json()
    assert ([change["version"] for change in rest["versions"]], rest["next_before"]) == ([1], None)


async def test_checkpoints_are_made_listed_restored_and_deleted(http: httpx2.AsyncClient) -> None:
    await patch(http, update={"count": 1})
    made = await http.post("/sessions/s/state/checkpoints", json={"name": "good"})
    assert (made.status_code, made.headers["location"]) == (201, "/sessions/s/state/checkpoints/good")
    assert (await http.post("/sessions/s/state/checkpoints", json={"name": "good"})).status_code == 409
    assert (await http.get("/sessions/s/state/checkpoints")).json() == {"checkpoints": [made.json()]}
    await patch(http, update={"count": 1})
    stale = await http.post("/sessions/s/state/restore", json={"checkpoint": "good", "expected_version": 1})
    assert (stale.status_code, stale.json()["version"]) == (409, 2)
    restored = await http.post("/sessions/s/state/restore", json={"checkpoint": "good", "expected_version": 2})
    assert (restored.json()["version"], restored.json()["values"]["count"]) == (3, 1)
    assert (await http.post("/sessions/s/state/restore", json={"version": 2})).json()["values"]["count"] == 2
    assert (await http.post("/sessions/s/state/restore", json={})).status_code == 400
    assert (await http.delete("/sessions/s/state/checkpoints/good")).status_code == 204
    assert (await http.delete("/sessions/s/state/checkpoints/good")).status_code == 404
    assert (await http.post("/sessions/s/state/restore", json={"checkpoint": "good"})).status_code == 404


async def test_a_fork_takes_the_state_along_and_a_closed_session_takes_none(http: httpx2.AsyncClient) -> None:
    await patch(http, update={"count": 1})
    child = (await http.post("/sessions/s/fork")).json()["session_id"]
    assert (await http.get(f"/sessions/{child}/state")).json()["values"]["count"] == 1
    await http.post("/sessions/s/close")
    assert (await patch(http, update={"count": 1})).status_code == 409
    assert (await patch(http, child, update={"count": 1})).json()["values"]["count"] == 2


async def test_another_tenants_session_is_not_there() -> None:
    client = StoringClient(config(session={"shards": 2}, state=STATE, tenants=TENANTS))
    async with in_memory(create_app(client)) as http:
        ours, theirs = ({"authorization": f"Bearer {key}"} for key in (ACME, GLOBEX))
        await http.post("/sessions", json={"session_id": "s"}, headers=ours)
        await http.patch("/sessions/s/state", json={"update": {"count": 7}}, headers=ours)
        await http.post("/sessions/s/state/checkpoints", json={"name": "c"}, headers=ours)
        for method, path, body in (
            ("GET", "", None),
            ("PATCH", "", {"update": {"count": 1}}),
            ("GET", "/history", None),
            ("GET", "/checkpoints", None),
            ("POST", "/checkpoints", {"name": "d"}),
            ("POST", "/restore", {"checkpoint": "c"}),
            ("DELETE", "/checkpoints/c", None),
        ):
            answer = await http.request(method, f"/sessions/s/state{path}", json=body, headers=theirs)
            assert answer.status_code == 404, (method, path)
        await http.post("/sessions", json={"session_id": "s"}, headers=theirs)
        other = (await http.get("/sessions/s/state", headers=theirs)).json()
        assert (other["version"], other["values"]["count"]) == (0, None)
        assert (await http.get("/sessions/s/state/checkpoints", headers=theirs)).json() == {"checkpoints": []}
        assert (await http.get("/sessions/s/state", headers=ours)).json()["values"]["count"] == 7
