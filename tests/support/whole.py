"""A whole workflow on one fabric, with the real ingress application in front: several of it, as in several processes.

Models speak when they are told to, so a test can stop the world at any token.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp
from support.batches import events_of

from rayflow.actors.agent import Agent
from rayflow.actors.aggregator import Aggregator
from rayflow.actors.kept_results import KeptResults
from rayflow.actors.outbox import Outbox
from rayflow.actors.remembering import RememberingStore
from rayflow.actors.router import Router
from rayflow.actors.sessions import Expiry, Sessions
from rayflow.api.connection import SCOPE_KEY
from rayflow.api.http import create_app
from rayflow.app.build import keeping
from rayflow.app.client import SystemClient
from rayflow.chat import ModelChunk, ModelReply, ModelRequest, Usage
from rayflow.clock import SYSTEM_CLOCK, Clock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import WorkflowConfig
from rayflow.events import Event
from rayflow.messages import EventBatch, GetHistory, History, ListSessions, SessionList, Turn
from rayflow.runtime.ports import Actor, ShardStore
from rayflow.stores.memory import MemoryStore

PATIENCE_S = 10.0


class Speaker:
    """A model that says one word of `words` after the other: `free` ones at once, then one for each `say`."""

    def __init__(self, words: int = 12, free: int | None = None) -> None:
        self.words = words
        self.calls = 0
        self.open = 0
        """Calls under way."""
        self._said = asyncio.Semaphore(words * 10_000 if free is None else free)

    def say(self, words: int = 1) -> None:
        for _ in range(words):
            self._said.release()

    async def complete(self, request: ModelRequest) -> ModelReply:
        pieces = [piece async for chunk in self.stream(request) for piece in chunk.pieces]
        return ModelReply("".join(pieces), "stop", Usage(7, self.words), "speaker")

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        self.calls += 1
        self.open += 1
        question = request.messages[-1].text
        try:
            for number in range(self.words):
                await self._said.acquire()
                yield ModelChunk((f"{question}-{number} ",))
                await asyncio.sleep(0)
            yield ModelChunk(finish_reason="stop", usage=Usage(7, self.words))
        finally:
            self.open -= 1

    async def close(self) -> None: ...


class Whole:
    """`ingress(n)`: the application of ingress process n. `events`: the log."""

    def __init__(self, config: WorkflowConfig, model: Speaker) -> None:
        self.config = config
        self.model = model
        self.fabric = InProcessFabric()
        self.events: list[Event] = []
        self.router = Router("router/0", config, self.fabric, Outbox(self.fabric), SYSTEM_CLOCK, random.Random(1))
        self.kept: KeptResults | None = None
        """The store actor's answers, where they are kept."""
        self.clients: dict[int, SystemClient] = {}
        self._apps: dict[int, ASGIApp] = {}

    def ingress(self, number: int = 0) -> ASGIApp:
        if number not in self._apps:
            self.clients[number] = SystemClient(self.fabric, f"ingress/{number}", self.config)
            self._apps[number] = create_app(self.clients[number])  # type: ignore[arg-type]
        return self._apps[number]

    async def turns(self, session: str, tenant: str = "") -> list[Turn]:
        history: History = await self.fabric.ask("session/0", GetHistory(tenant, session, limit=1000), PATIENCE_S)
        return history.turns

    async def sessions(self, tenant: str = "") -> list[str]:
        found: SessionList = await self.fabric.ask("session/0", ListSessions(tenant), PATIENCE_S)
        return [info.session_id for info in found.sessions]

    async def trail(self, run_id: str) -> list[Event]:
        self.router._outbox.flush()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [event for event in self.events if event.run_id == run_id]


@asynccontextmanager
async def whole(
    model: Speaker | None = None,
    *,
    store: ShardStore | None = None,
    clock: Clock = SYSTEM_CLOCK,
    expiry: Expiry | None = None,
    **sections: Any,
) -> AsyncIterator[Whole]:
    """One agent, one router, one store: in memory unless another is given. `clock`: that of the store."""
    given = {"name": "team", "agents": [{"name": "a"}], "streaming": {"flush_s": 0.0, "max_chars": 1}, **sections}
    config = WorkflowConfig.model_validate(given)
    made = Whole(config, model or Speaker())
    fabric = made.fabric
    fabric.bind("eventlog/0", {EventBatch: lambda batch: made.events.extend(events_of(batch))})
    kept = store or MemoryStore(100_000)
    sessions: Actor = Sessions("session/0", kept, Outbox(fabric), clock, expiry)
    if config.memory.enabled:
        sessions = RememberingStore("session/0", sessions, kept, config.memory, Outbox(fabric), SYSTEM_CLOCK)
    await sessions.start()
    keeper = keeping(config, sessions)
    made.kept = keeper if isinstance(keeper, KeptResults) else None
    fabric.bind("session/0", keeper.handlers)
    fabric.bind("aggregator/0", Aggregator(config.aggregation).handlers)
    for agent in config.agents:
        actor = Agent(
            f"agent/{agent.name}/0", agent, lambda _: made.model, config.streaming, fabric, SYSTEM_CLOCK, 60.0,
            config.monitoring.otel.enabled,
        )  # fmt: skip
        fabric.bind(f"agent/{agent.name}/0", actor.handlers)
    await made.router.start()
    fabric.bind("router/0", made.router.handlers)
    try:
        yield made
    finally:
        fabric.unbind("router/0")
        await made.router.stop()
        await sessions.stop()


class Call:
    """One raw request to an application, whose client may hang up at any moment. `received`: what was written to it."""

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        body: dict[str, Any] | None = None,
        method: str = "POST",
        query: str = "",
        **headers: str,
    ) -> None:
        self._chunks = [json.dumps(body).encode() if body is not None else b""]  # servers say that there is none
        given = {"host": "test", "content-type": "application/json", **headers}
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "root_path": "", "scheme": "http", "http_version": "1.1", SCOPE_KEY: self,
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
        }  # fmt: skip
        self.received = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self._gone = asyncio.Event()
        self._news = asyncio.Condition()
        self.task = asyncio.create_task(app(scope, self._receive, self._send))  # type: ignore[arg-type]

    def hang_up(self) -> None:
        self._gone.set()

    @property
    def gone(self) -> bool:
        return self._gone.is_set()

    def write(self, body: bytes) -> bool:
        return False

    async def until(self, count: int) -> None:
        """Wait until so many tokens were received."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.tokens) >= count)

    async def done(self) -> Call:
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)
        return self

    @property
    def json(self) -> Any:
        return json.loads(self.received)

    @property
    def data(self) -> list[Any]:
        lines = [line[6:] for line in self.received.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line) for line in lines if line != b"[DONE]"]

    @property
    def tokens(self) -> list[str]:
        """Of the native route."""
        return [event["content"] for event in self.data if event.get("type") == "token"]

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    async def _receive(self) -> dict[str, Any]:
        if self._chunks:
            return {"type": "http.request", "body": self._chunks.pop(0), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._gone.is_set():
            return  # a server drops what it writes to nobody
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self.received += message.get("body", b"")
        async with self._news:
            self._news.notify_all()
