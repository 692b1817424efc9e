"""A real server on a loopback port, and clients of its WebSockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from rayflow.api.web import WebServer, listen

PATIENCE_S = 10.0

Frame = dict[str, Any]


class Talk:
    """One WebSocket. `frames`: what was received, in order."""

    def __init__(self, line: ClientConnection) -> None:
        self.line = line
        self.frames: list[Frame] = []

    async def say(self, kind: str, **facts: Any) -> None:
        await self.line.send(json.dumps({"type": kind, **facts}))

    async def next(self) -> Frame:
        async with asyncio.timeout(PATIENCE_S):
            self.frames.append(json.loads(await self.line.recv()))
        return self.frames[-1]

    async def until(self, kind: str, times: int = 1) -> Frame:
        """Read until so many frames of this kind were received in all."""
        while len(self.all(kind)) < times:
            await self.next()
        return self.all(kind)[times - 1]

    async def ask(self, message: str = "q", **facts: Any) -> str:
        """Send a message and wait until it is accepted; returns the run's id."""
        await self.say("message", message=message, **facts)
        accepted = await self.until("accepted", len(self.all("accepted")) + 1)
        return str(accepted["run_id"])

    async def closed(self) -> int:
        """Read to the end; returns the code."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else 1006

    def all(self, kind: str, run_id: str | None = None) -> list[Frame]:
        return [f for f in self.frames if f["type"] == kind and run_id in (None, f.get("run_id"))]

    def text(self, run_id: str | None = None) -> str:
        return "".join(frame["content"] for frame in self.all("token", run_id))


class Site:
    """A running server."""

    def __init__(self, web: WebServer, port: int, task: asyncio.Task[None]) -> None:
        self.web = web
        self.port = port
        self.task = task

    @asynccontextmanager
    async def talk(self, path: str = "/ws", **given: Any) -> AsyncIterator[Talk]:
        options: dict[str, Any] = {"compression": None, **given}
        async with connect(f"ws://127.0.0.1:{self.port}{path}", **options) as line:
            yield Talk(line)


@asynccontextmanager
async def site(app: ASGIApp, **budgets: float) -> AsyncIterator[Site]:
    web, sock = WebServer(app, **budgets), listen("127.0.0.1", 0)
    task = asyncio.create_task(web.serve([sock]))
    try:
        yield Site(web, sock.getsockname()[1], task)
    finally:
        web.stop()
        web.stop()
        await task


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)
