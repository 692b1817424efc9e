"""What is written to a connection directly is part of the same answer, and waits where the client does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

from rayflow.api.connection import connection_of
from rayflow.api.web import WebServer, listen

PATIENCE_S = 10.0
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"", "more_body": False}


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    web, sock = WebServer(app), listen("127.0.0.1", 0)
    task = asyncio.create_task(web.serve([sock]))
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}") as http:
            yield http
    finally:
        web.stop()
        web.stop()
        await asyncio.wait_for(task, PATIENCE_S)


async def test_pieces_arrive_whole_and_in_order_though_the_client_reads_late() -> None:
    pieces = [b"%06d" % number * 1000 for number in range(2000)]
    full, written = asyncio.Event(), 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal written
        connection = connection_of(scope)
        assert not connection.write(b"before the head")
        await send(START)
        for piece in pieces:
            if connection.write(piece):
                written += 1
            else:
                full.set()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send(END)
        assert not connection.write(b"after the end")

    async with served(app) as http, asyncio.timeout(PATIENCE_S), http.stream("GET", "/") as response:
        await full.wait()
        assert written < len(pieces)
        assert await response.aread() == b"".join(pieces)


async def test_who_has_gone_gets_nothing() -> None:
    gone = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        await send(START)
        assert connection.write(b"x")
        assert not connection.gone
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        assert connection.gone
        assert not connection.write(b"y")
        gone.set()

    async with served(app) as http, asyncio.timeout(PATIENCE_S):
        async with http.stream("GET", "/"):
            pass
        await gone.wait()


async def test_without_our_server_nothing_is_written_directly() -> None:
    connection = connection_of({"type": "http"})
    assert not connection.gone
    assert not connection.write(b"x")
