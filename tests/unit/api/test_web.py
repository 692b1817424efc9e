"""The server ends without failing a request: readiness first, then the port, then each connection when it is idle."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest
import uvloop
from api_doubles import ScriptedClient, config, result, tokens

from rayflow.api.http import create_app
from rayflow.api.web import WebServer, listen

CHAT = {"message": "hi"}
OPENAI = {"model": "team", "messages": [{"role": "user", "content": "hi"}]}
ROUTES = {"/v1/chat/completions": OPENAI, "/chat": CHAT}
GET = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n"


@dataclass
class Running:
    web: WebServer
    port: int
    task: asyncio.Task[None]

    @property
    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}")

    async def connect(self) -> Wire:
        return Wire(*await asyncio.open_connection("127.0.0.1", self.port))

    def post(self, path: str, **more: object) -> asyncio.Task[httpx2.Response]:
        async def send() -> httpx2.Response:
            async with self.http as http:
                return await http.post(path, json={**ROUTES[path], **more})

        return asyncio.create_task(send())

    async def closed(self) -> None:
        """Until nobody can connect any more."""
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                return
            writer.close()


@dataclass
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> bytes:
        """The next answer, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        return head + await self.reader.readexactly(int(length.partition(b":")[2]))

    async def get(self) -> bytes:
        self.writer.write(GET)
        return await self.answer()

    async def until_closed(self) -> bytes:
        rest = await self.reader.read()
        self.writer.close()
        return rest


@asynccontextmanager
async def running(client: ScriptedClient, **budgets: float) -> AsyncIterator[Running]:
    web = WebServer(create_app(client), **budgets)
    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    task = asyncio.create_task(web.serve(sockets=[sock]))
    try:
        yield Running(web, port, task)
    finally:
        web.stop()
        web.stop()
        await task


async def test_before_the_port_closes_it_says_that_it_is_not_ready_and_serves_as_ever(client: ScriptedClient) -> None:
    async with running(client, ready_grace_s=3600) as server, server.http as http:
        assert (await http.get("/readyz")).status_code == 200
        server.web.stop()
        refused = await http.get("/readyz")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["detail"] == "the server is stopping: send new requests elsewhere"
        served = await http.post("/chat", json=CHAT)
        assert (served.status_code, served.headers.get("connection")) == (200, None)
        async with server.http as newcomer:
            assert (await newcomer.get("/healthz")).status_code == 200


@pytest.mark.parametrize("path", ROUTES)
async def test_requests_under_way_are_answered_and_then_the_server_ends(client: ScriptedClient, path: str) -> None:
    go_on = asyncio.Event()
    client.script = lambda run: [go_on, result(run)]
    async with running(client) as server:
        asking = server.post(path)
        await client.waiting.wait()
        server.web.stop()
        await server.closed()
        go_on.set()
        answer = await asking
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        await server.task
        assert server.web.cut == 0


async def test_a_stream_under_way_comes_to_its_end(client: ScriptedClient) -> None:
    go_on = asyncio.Event()
    client.script = lambda run: [*tokens(run, "Hello"), go_on, *tokens(run, " there."), result(run)]
    async with running(client) as server:
        asking = server.post("/chat", stream=True)
        await client.waiting.wait()
        server.web.stop()
        await server.closed()
        go_on.set()
        assert (await asking).content.endswith(b"data: [DONE]\n\n")
        await server.task
        assert server.web.cut == 0


async def test_idle_and_silent_connections_are_closed(client: ScriptedClient) -> None:
    async with running(client, drain_s=3600) as server:
        idle, silent = await server.connect(), await server.connect()
        assert (await idle.get()).startswith(b"HTTP/1.1 200")
        server.web.stop()
        assert await idle.until_closed() == b""
        assert await silent.until_closed() == b""
        await server.task
        assert server.web.cut == 0


async def test_a_request_that_is_half_sent_is_waited_for(client: ScriptedClient) -> None:
    async with running(client, drain_s=3600) as server:
        fresh, used = await server.connect(), await server.connect()
        await used.get()
        for wire in (fresh, used):
            wire.writer.write(GET[:20])
        async with server.http as http:
            await http.get("/healthz")  # by now it has read both halves
        server.web.stop()
        await server.closed()
        for wire in (fresh, used):
            wire.writer.write(GET[20:])
            answer = await wire.answer()
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer
            assert await wire.until_closed() == b""
        await server.task


async def test_a_request_that_waits_to_be_read_is_answered_and_not_closed_upon(client: ScriptedClient) -> None:
    async with running(client, drain_s=3600) as server:
        idle, busy = await server.connect(), await server.connect()
        await idle.get()
        await busy.get()
        busy.writer.write(GET)
        server.web.close_idle()  # the server has had no chance to read it yet
        assert (await busy.answer()).startswith(b"HTTP/1.1 200")
        assert await idle.until_closed() == b""
        server.web.stop()
        assert await busy.until_closed() == b""


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_has_connected_before_the_port_closes_is_served(loop: type[asyncio.AbstractEventLoop]) -> None:
    """The loop takes one connection at a time; those that still wait would be reset with the listening socket."""

    def read(sock: socket.socket) -> bytes:
        with sock:
            sock.settimeout(10)
            return sock.recv(65536)

    async def scene() -> list[bytes]:
        async with running(ScriptedClient(config()), drain_s=3600) as server, server.http as http:
            await http.get("/healthz")
            waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(64)]
            for sock in waiting:
                sock.sendall(GET)
            server.web.stop()
            return await asyncio.gather(*(asyncio.to_thread(read, sock) for sock in waiting))

    with asyncio.Runner(loop_factory=loop) as runner:
        answers = runner.run(scene())
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_stream_that_outlasts_the_budget_ends_with_an_error_event(client: ScriptedClient, path: str) -> None:
    client.script = lambda run: [*tokens(run, "Hello"), asyncio.Event()]
    async with running(client, drain_s=0) as server:
        asking = server.post(path, stream=True)
        await client.waiting.wait()
        server.web.stop()
        answer = await asking  # complete: a torn one would raise
        last = json.loads(answer.text.strip().rpartition("data: ")[2])
        if path == "/chat":
            assert (last["type"], last["error"]["type"]) == ("error", "urn:rayflow:problem:unavailable")
            assert last["error"]["status"] == 503
        else:
            assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "unavailable")
        await server.task
        assert server.web.cut == 1
        assert client.cancelled.is_set()


@pytest.mark.parametrize("path", ROUTES)
async def test_a_request_that_outlasts_the_budget_is_refused_and_may_be_sent_again(
    client: ScriptedClient, path: str
) -> None:
    client.script = lambda run: [asyncio.Event()]
    async with running(client, drain_s=0) as server:
        asking = server.post(path)
        await client.waiting.wait()
        server.web.stop()
        answer = await asking
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["connection"] == "close"
        await server.task
        assert server.web.cut == 1


async def test_asked_twice_it_waits_for_nothing(client: ScriptedClient) -> None:
    client.script = lambda run: [asyncio.Event()]
    async with running(client, ready_grace_s=3600, drain_s=3600) as server:
        asking = server.post("/chat")
        await client.waiting.wait()
        server.web.stop()
        server.web.stop()
        assert (await asking).status_code == 503
        await server.task
        assert server.web.cut == 1
