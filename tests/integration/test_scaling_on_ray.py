"""Pools that grow and shrink on a real Ray, under load from a slow upstream: nothing is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rayflow.app.client import SystemClient
from rayflow.app.state import owned
from rayflow.app.system import RaySystem
from rayflow.chat import Message
from rayflow.config.load import from_dict
from rayflow.ids import new_run_id, new_session_id
from rayflow.messages import GetStatus, PoolStatus, RunRequest, Status
from rayflow.runtime.roster import COORDINATOR

PATIENCE_S = 40.0
BOTH = ["agent/one/0", "agent/one/1"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local Ray sets its token's place in the environment; the next test must not inherit it."""
    for name in [name for name in os.environ if name.startswith("RAY_AUTH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.fixture
def upstream() -> Iterator[str]:
    """An endpoint whose answers take 0.3 s."""
    command = [sys.executable, "-m", "rayflow", "model", "serve", "--port", "0", "--ttft-ms", "300"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        yield next(line.split()[-1] for line in server.stderr if line.startswith("offline model at"))
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


@asynccontextmanager
async def scaled(folder: Path, upstream: str, replicas: dict[str, Any], **scaling: Any) -> AsyncIterator[SystemClient]:
    config = from_dict(
        {
            "name": "w",
            "models": [{"name": "slow", "provider": "openai", "base_url": upstream, "api_key": "none"}],
            "agents": [{"name": "one", "model": "slow", "replicas": {"max_in_flight": 4, **replicas}}],
            "scaling": {"interval_s": 0.25, "down_delay_s": 3.0, **scaling},
            "storage": {"state": str(folder)},
        }
    )
    with owned(folder) as mine:
        async with RaySystem(config, mine.run_dir) as system:
            yield await system.client("test")


class Load:
    """So many clients that ask one question after another, and when each answer came."""

    def __init__(self, client: SystemClient, clients: int) -> None:
        self.answers = 0
        self._going = True
        self._clients = [asyncio.create_task(self._ask(client)) for _ in range(clients)]

    async def _ask(self, client: SystemClient) -> None:
        while self._going:
            question = RunRequest(new_run_id(), new_session_id(), [Message("user", "hello")], agent="one")
            assert (await client.run(question)).content
            self.answers += 1

    async def end(self) -> None:
        """Raises what any request has failed with."""
        self._going = False
        await asyncio.gather(*self._clients)


async def pool(client: SystemClient) -> PoolStatus:
    status: Status = await client.fabric.ask(COORDINATOR, GetStatus(), 5.0)
    return status.pools[0]


async def until(client: SystemClient, true: Callable[[PoolStatus], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true(await pool(client)):
            await asyncio.sleep(0.05)


async def test_load_makes_a_pool_grow_and_its_end_makes_it_shrink_and_no_request_is_lost(
    tmp_path: Path, upstream: str
) -> None:
    async with scaled(tmp_path, upstream, {"min": 1, "max": 3}) as client:
        quiet = Load(client, 1)
        assert await pool(client) == PoolStatus("one", wanted=1, ready=1, strategy="queue_depth")
        heavy = Load(client, 30)
        await until(client, lambda now: now.ready == 3)
        await heavy.end()
        await until(client, lambda now: now.wanted == 1 and now.ready == 1)
        status: Status = await client.fabric.ask(COORDINATOR, GetStatus(), 5.0)
        async with asyncio.timeout(PATIENCE_S):
            while sum(actor.role == "agent" for actor in status.actors) > 1:
                status = await client.fabric.ask(COORDINATOR, GetStatus(), 5.0)
                await asyncio.sleep(0.05)
        before = quiet.answers
        async with asyncio.timeout(PATIENCE_S):
            while quiet.answers == before:
                await asyncio.sleep(0.05)
        await quiet.end()
        assert heavy.answers > 30


async def test_a_warm_spare_serves_as_soon_as_the_pool_is_to_grow(tmp_path: Path, upstream: str) -> None:
    async with scaled(tmp_path, upstream, {"min": 1, "max": 3, "spares": 1}, strategy="manual") as client:
        [serving] = client.fabric.directory.addresses("agent/")  # whoever of the two was ready first
        assert serving in BOTH
        await until(client, lambda now: now.spares == 1)
        changed = asyncio.Event()
        client.fabric.directory.on_change(changed.set)
        assert await client.scale(replicas=2) == {"one": 2}
        async with asyncio.timeout(1.0):
            while client.fabric.directory.addresses("agent/") != BOTH:
                changed.clear()
                await changed.wait()
        await until(client, lambda now: now.spares == 1)
        assert await client.scale(factor=0.5) == {"one": 1}
        await until(client, lambda now: (now.ready, now.spares) == (1, 1))
