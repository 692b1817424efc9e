"""A client that goes away takes its run with it; one that is only slow or silent does not, up to a point."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from api_doubles import ScriptedClient, Wire, config, result, served, tokens

from rayflow.api import sse
from rayflow.api.http import create_app

ROUTES = {
    "/v1/chat/completions": {"model": "team", "messages": [{"role": "user", "content": "hi"}]},
    "/chat": {"message": "hi"},
}


@pytest.fixture
async def url(client: ScriptedClient) -> AsyncIterator[str]:
    async with served(create_app(client)) as url:
        yield url


@pytest.mark.parametrize("path", ROUTES)
async def test_leaving_before_the_answer_cancels_the_run(client: ScriptedClient, url: str, path: str) -> None:
    client.script = lambda run: [asyncio.Event()]
    async with httpx2.AsyncClient(base_url=url) as http:
        asking = asyncio.create_task(http.post(path, json=ROUTES[path]))
        await client.waiting.wait()
        asking.cancel()
        await asyncio.wait([asking])
    await client.cancelled.wait()


@pytest.mark.parametrize("path", ROUTES)
async def test_leaving_a_stream_cancels_the_run(client: ScriptedClient, url: str, path: str) -> None:
    client.script = lambda run: [*tokens(run, "Hello"), asyncio.Event()]
    async with (
        httpx2.AsyncClient(base_url=url) as http,
        http.stream("POST", path, json={**ROUTES[path], "stream": True}) as answer,
    ):
        async for line in answer.aiter_lines():
            if "Hello" in line:
                break
    await client.cancelled.wait()


async def test_leaving_is_counted_as_cancelled_and_frees_the_run(client: ScriptedClient) -> None:
    client.script = lambda run: [asyncio.Event()]
    app = create_app(client)
    wire = Wire("/chat", json.dumps({"message": "hi"}).encode())
    asking = asyncio.create_task(app(wire.scope, wire.receive, wire.send))
    await client.waiting.wait()
    wire.hang_up.set()
    await asking
    assert wire.sent == []
    page = Wire("/metrics", method="GET")
    await app(page.scope, page.receive, page.send)
    assert b'workflow_executions_total{status="cancelled",workflow_type="team"} 1.0' in page.body
    assert b"rayflow_runs_in_flight 0.0" in page.body
    assert b'rayflow_requests_total{code="499",route="/chat"} 1.0' in page.body


async def test_leaving_while_sending_the_body_runs_nothing(client: ScriptedClient) -> None:
    wire = Wire("/chat")
    wire.hang_up.set()
    await create_app(client)(wire.scope, wire.receive, wire.send)
    assert (wire.sent, client.runs) == ([], [])


async def test_cancelling_the_server_s_task_is_no_disconnect(client: ScriptedClient) -> None:
    """The server does it when it stops; the client is still there, and is told."""
    client.script = lambda run: [asyncio.Event()]
    wire = Wire("/chat", json.dumps({"message": "hi"}).encode())
    asking = asyncio.create_task(create_app(client)(wire.scope, wire.receive, wire.send))
    await client.waiting.wait()
    asking.cancel()
    await asking
    assert wire.status == 503
    assert client.cancelled.is_set()


async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    client = ScriptedClient(config(streaming={"keepalive_s": 0.001}))
    go_on = asyncio.Event()
    client.script = lambda run: [go_on, *tokens(run, "Hello"), result(run)]
    wire = Wire("/chat", json.dumps({"message": "hi", "stream": True}).encode())
    asking = asyncio.create_task(create_app(client)(wire.scope, wire.receive, wire.send))
    await wire.until(sse.KEEPALIVE * 2)
    go_on.set()
    await asking
    assert wire.status == 200
    assert wire.body.endswith(sse.DONE)


async def test_a_client_that_stops_reading_is_given_up(client: ScriptedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "SLOW_READER_S", 0.001)
    client.script = lambda run: [*tokens(run, "Hello", " there."), result(run)]
    wire = Wire("/chat", json.dumps({"message": "hi", "stream": True}).encode())

    async def stuck(message: dict[str, object]) -> None:
        await wire.send(message)
        if b" there." in wire.body:
            await asyncio.Event().wait()

    await create_app(client)(wire.scope, wire.receive, stuck)
    assert sse.DONE not in wire.body
    assert client.cancelled.is_set()
