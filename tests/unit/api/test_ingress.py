"""The ingress stays open while coordinators come and go, and takes a new configuration without a break."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_doubles import ScriptedClient, config, result

from rayflow.api import ingress
from rayflow.api.ingress import Ingress
from rayflow.api.web import listen
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import Exit, Unavailable

CHAT = {"message": "hi"}


@dataclass
class FakeMember:
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    left: bool = False
    closed: bool = False
    on_configure: Any = None

    async def leave(self) -> None:
        self.left = True

    async def close(self) -> None:
        self.closed = True


class FakeSystem:
    """What `attach` finds: nothing until `up` is set."""

    def __init__(self, workflow: WorkflowConfig) -> None:
        self.client = ScriptedClient(workflow)
        self.up = asyncio.Event()
        self.members: list[FakeMember] = []

    async def attach(self, run_dir: Path, address: str, role: str, patience_s: float) -> tuple[FakeMember, Any]:
        if self.members:
            raise Unavailable("gone")
        await self.up.wait()
        self.members.append(FakeMember())
        return self.members[-1], self.client


@dataclass
class Scene:
    system: FakeSystem
    http: httpx2.AsyncClient
    serving: asyncio.Task[int]
    ready: asyncio.Event

    @property
    def member(self) -> FakeMember:
        return self.system.members[-1]

    def configure(self, **sections: Any) -> None:
        given = {"storage": self.system.client.config.storage.model_dump(), **sections}
        self.member.on_configure(dump(config(**given)))


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    workflow = config(storage={"state": str(tmp_path)}, processing={"ready_grace_s": 0.0})
    system = FakeSystem(workflow)
    monkeypatch.setattr(ingress, "attach", system.attach)
    monkeypatch.setattr(ingress, "to_file", lambda *_: None)  # it takes the process's log away from pytest
    ready = asyncio.Event()
    sock = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    process = Ingress(tmp_path, 0, lambda said: ready.set())
    serving = asyncio.create_task(process.run(lambda: sock))
    async with httpx2.AsyncClient(base_url=url) as http:
        yield Scene(system, http, serving, ready)
    if not serving.done():
        os.kill(os.getpid(), signal.SIGTERM)
    await serving


async def up(scene: Scene) -> None:
    scene.system.up.set()
    await scene.ready.wait()


async def test_until_it_has_joined_it_asks_for_patience(scene: Scene) -> None:
    refused = await scene.http.post("/chat", json=CHAT)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await scene.http.get("/healthz")).status_code == 200
    await up(scene)
    assert (await scene.http.post("/chat", json=CHAT)).status_code == 200


async def test_a_new_configuration_is_in_force_for_the_next_request(scene: Scene) -> None:
    await up(scene)
    assert (await scene.http.get("/v1/models")).status_code == 200
    scene.configure(security={"api_keys": ["rf_new_key"]}, agents=[{"name": "fresh"}])
    assert (await scene.http.get("/v1/models")).status_code == 401
    models = await scene.http.get("/v1/models", headers={"authorization": "Bearer rf_new_key"})
    assert [model["id"] for model in models.json()["data"]] == ["team", "fresh"]


async def test_what_was_counted_stays_counted_under_a_new_configuration(scene: Scene) -> None:
    await up(scene)
    go_on = asyncio.Event()
    scene.system.client.script = lambda run: [go_on, result(run)]
    asking = asyncio.create_task(scene.http.post("/chat", json=CHAT))
    await scene.system.client.waiting.wait()
    scene.configure(description="new")
    assert "rayflow_runs_in_flight 1.0" in (await scene.http.get("/metrics")).text
    go_on.set()
    assert (await asking).status_code == 200
    counted = (await scene.http.get("/metrics")).text
    assert 'rayflow_requests_total{code="200",route="/chat"} 1.0' in counted
    assert "rayflow_runs_in_flight 0.0" in counted


async def test_when_the_system_is_gone_it_closes_the_door_and_looks_for_another(scene: Scene) -> None:
    await up(scene)
    first = scene.member
    first.lost.set()
    while (refused := await scene.http.post("/chat", json=CHAT)).status_code == 200:
        pass
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert first.closed
    assert not first.left, "there is nobody to tell"
    scene.ready.clear()
    scene.system.members.clear()
    await up(scene)
    assert (await scene.http.post("/chat", json=CHAT)).status_code == 200


async def test_stopping_it_tells_the_system_and_is_no_failure(scene: Scene) -> None:
    await up(scene)
    (await scene.http.get("/healthz")).raise_for_status()
    await scene.http.aclose()
    member = scene.member
    os.kill(os.getpid(), signal.SIGTERM)
    assert await scene.serving == Exit.OK
    assert member.left
    assert member.closed


async def test_a_replaced_process_takes_no_connection_before_it_has_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node").write_text("node\n")
    system = FakeSystem(config(storage={"state": str(tmp_path)}, processing={"ready_grace_s": 0.0}))
    monkeypatch.setattr(ingress, "attach", system.attach)
    monkeypatch.setattr(ingress, "to_file", lambda *_: None)
    listening: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()

    def listen_now() -> socket.socket:
        listening.set_result(listen("127.0.0.1", 0))
        return listening.result()

    serving = asyncio.create_task(Ingress(tmp_path, 0, lambda said: None).run(listen_now))
    await asyncio.sleep(0.05)
    assert not listening.done()
    system.up.set()
    port = (await asyncio.wait_for(listening, 5)).getsockname()[1]
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.get("/readyz")).status_code == 200
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
