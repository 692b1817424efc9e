"""A whole system in one process while its actors die: every run is answered once, and a message that kills is found."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rayflow.app import system
from rayflow.app.client import SystemClient
from rayflow.chat import Message, ModelChunk, ModelReply, ModelRequest, Usage
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.inprocess import InProcessBackend
from rayflow.cluster.member import Builder
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import PeerLost, PoisonMessage
from rayflow.ids import new_run_id
from rayflow.messages import GetHistory, History, RunRequest, RunResult, Token
from rayflow.models import factory

PATIENCE_S = 30.0


class Model:
    """The model of one replica: repeats what it was asked. Over a `deadly` message its replica dies."""

    def __init__(self, world: World, address: str) -> None:
        self._world = world
        self._address = address

    async def complete(self, request: ModelRequest) -> ModelReply:
        await self._world.work(self._address, request.messages[-1].text)
        return ModelReply(f"re: {request.messages[-1].text}", "stop", Usage(1, 1), "m")

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        reply = await self.complete(request)
        yield ModelChunk(tuple(re.findall(r"\S+\s*", reply.text)))
        yield ModelChunk(finish_reason="stop", usage=reply.usage)

    async def close(self) -> None:
        """Nothing to close."""


class Cut(str):
    """The beginning of an answer whose replica died in the moment between its first token and its end."""


class World:
    client: SystemClient
    backend: InProcessBackend

    def __init__(self) -> None:
        self.deaths: list[str] = []
        self.working = asyncio.Semaphore(0)
        """Released for every call that begins."""
        self.gate = asyncio.Event()
        self.gate.set()
        self._dying: set[asyncio.Task[None]] = set()

    async def work(self, address: str, text: str) -> None:
        self.working.release()
        await asyncio.sleep(0.01)
        if "deadly" in text:
            self.kill(address)
            await asyncio.Event().wait()
        await self.gate.wait()

    def kill(self, address: str) -> None:
        """The process at this address ends, as by SIGKILL; the coordinator learns of it and starts another one."""
        self.deaths.append(address)
        epoch = max(epoch for known, epoch in self.backend.machine.tasks if known == address)
        dying = asyncio.get_running_loop().create_task(self.backend.kill(address, epoch))
        self._dying.add(dying)
        dying.add_done_callback(self._dying.discard)

    async def run(self, text: str, **more: Any) -> RunResult:
        request = RunRequest(new_run_id(), f"sess_{text}", [Message("user", text)], tenant="t", **more)
        return await self.client.run(request)

    async def stream(self, text: str) -> str:
        """The text that came in tokens: always the beginning of the answer. `Cut` where its replica died after that."""
        request = RunRequest(
            new_run_id(), f"sess_{text}", [Message("user", text)], tenant="t", client=self.client.address, stream=True
        )
        heard = ""
        try:
            async for item in self.client.stream(request):
                if isinstance(item, Token):
                    heard += item.text
                elif isinstance(item, RunResult):
                    assert item.content.startswith(heard)
        except PeerLost:
            if not heard:
                raise
            return Cut(heard)
        return heard

    async def turns(self, text: str) -> list[tuple[str, str]]:
        history: History = await self.client.session(GetHistory("t", f"sess_{text}"))
        return [(turn.message.role, turn.message.text) for turn in history.turns]


@asynccontextmanager
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    w = World()

    def backend(fabric: InProcessFabric, build: Builder) -> InProcessBackend:
        w.backend = InProcessBackend(fabric, build)
        return w.backend

    monkeypatch.setattr(system, "InProcessBackend", backend)
    monkeypatch.setattr(factory, "build", lambda config, replica: Model(w, f"agent/a/{replica}"))
    configuration = WorkflowConfig.model_validate({
        "name": "team",
        "agents": [{"name": "a", "replicas": {"min": 3, "max": 3, "max_in_flight": 16}}],
        "session": {"store": "memory"},
        "monitoring": {"event_log": False},
    })  # fmt: skip
    async with system.InProcessSystem(configuration) as running:
        w.client = await running.client("test")
        yield w


async def answered(w: World, texts: list[str], outcomes: list[Any], *, keeping: bool = True) -> None:
    """Every one of them got its answer, and its session holds the question and the answer, once; of one that was cut,
    what was heard, if `keeping`: a router that died keeps nothing."""
    for text, outcome in zip(texts, outcomes, strict=True):
        assert not isinstance(outcome, BaseException), (text, outcome)
        kept = str(outcome) if isinstance(outcome, Cut) else f"re: {text}"
        turns = [("user", text), ("assistant", kept)]
        assert await w.turns(text) == (turns[:1] if isinstance(outcome, Cut) and not keeping else turns)


async def gathered(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), PATIENCE_S)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_poison_among_innocents_is_found_and_they_are_all_answered(
    monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    async with world(monkeypatch) as w:
        innocents = [f"innocent-{i}" for i in range(40)]
        ask: Callable[[str], Coroutine[Any, Any, Any]] = w.stream if streamed else w.run
        poison, *outcomes = await gathered(ask("deadly"), *(ask(text) for text in innocents))
        assert isinstance(poison, PoisonMessage)
        assert 2 <= len(w.deaths) <= 3
        await answered(w, innocents, outcomes)
        assert await w.turns("deadly") == [("user", "deadly")]


@pytest.mark.parametrize("victim", ["agent/a/0", "router/0"])
async def test_whoever_dies_before_the_first_token_nobody_notices(monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    async with world(monkeypatch) as w:
        w.gate.clear()
        texts = [f"question-{i}" for i in range(12)]
        runs = asyncio.create_task(gathered(*(w.run(t) for t in texts[:6]), *(w.stream(t) for t in texts[6:])))
        for _ in texts:
            await asyncio.wait_for(w.working.acquire(), PATIENCE_S)
        w.kill(victim)
        w.gate.set()
        await answered(w, texts, await runs, keeping=victim != "router/0")
