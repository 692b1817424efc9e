"""Who stands at the door is answered, whether it is shut, open, or about to be left."""

from __future__ import annotations

import asyncio

import pytest
from api_doubles import ScriptedClient, Wire, config, in_memory, result

from rayflow.api.door import Door
from rayflow.api.http import create_app


async def test_while_it_is_shut_only_health_is_answered() -> None:
    async with in_memory(Door()) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        for path in ("/readyz", "/v1/models", "/nowhere"):
            refused = await http.get(path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await http.get("/v1/models")).json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize("open_", [False, True])
async def test_who_leaves_is_not_ready_whether_or_not_it_is_open(client: ScriptedClient, open_: bool) -> None:
    door = Door(create_app(client) if open_ else None)
    door.leaving = True
    async with in_memory(door) as http:
        refused = await http.get("/readyz")
        assert refused.status_code == 503
        assert "stopping" in refused.json()["detail"]
        assert (await http.get("/healthz")).status_code == 200


async def test_a_request_stays_with_the_application_that_it_entered(client: ScriptedClient) -> None:
    go_on = asyncio.Event()
    client.script = lambda run: [go_on, result(run)]
    door = Door(create_app(client))
    wire = Wire("/chat", b'{"message": "hi"}')
    asking = asyncio.create_task(door(wire.scope, wire.receive, wire.send))
    await client.waiting.wait()
    door.app = create_app(ScriptedClient(config(name="other")))
    async with in_memory(door) as http:
        assert (await http.get("/v1/models/other")).status_code == 200
    go_on.set()
    await asking
    assert wire.status == 200
    assert b'"workflow":"team"' in wire.body
