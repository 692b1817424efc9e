"""The process that runs jobs for HTTP clients joins the system, again where it is lost, and ends when it is idle."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rayflow.batch import desk_process
from rayflow.batch.desk_process import Runner
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import Unavailable


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


class FakeClient:
    def __init__(self, config: WorkflowConfig) -> None:
        self.config = config
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeSystem:
    """`attach` fails as often as `refusals` says, and hands out a member each time after."""

    def __init__(self, state: Path, idle_s: float) -> None:
        self.config = WorkflowConfig.model_validate(
            {
                "name": "team",
                "agents": [{"name": "a"}],
                "storage": {"state": str(state)},
                "batch": {"idle_s": idle_s},
            }
        )
        self.refusals = 0
        self.members: list[FakeMember] = []
        self.clients: list[FakeClient] = []
        self.joined = asyncio.Condition()

    async def attach(self, run_dir: Path, address: str, role: str, patience_s: float) -> tuple[FakeMember, FakeClient]:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("not up")
        async with self.joined:
            self.members.append(FakeMember())
            self.clients.append(FakeClient(self.config))
            self.joined.notify_all()
        return self.members[-1], self.clients[-1]

    async def until(self, members: int) -> None:
        async with self.joined:
            await self.joined.wait_for(lambda: len(self.members) >= members)


def runner(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setattr(desk_process, "attach", system.attach)
    monkeypatch.setattr(desk_process, "to_file", lambda *_: None)
    monkeypatch.setattr(desk_process, "REJOIN_S", 0.0)
    return Runner(Path("/nowhere"))


async def test_it_ends_when_it_is_idle_and_leaves_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = FakeSystem(tmp_path, idle_s=0.0)
    system.refusals = 2
    await runner(system, monkeypatch).run()
    assert [(member.left, member.closed) for member in system.members] == [(True, True)]
    assert system.clients[0].closed


async def test_it_joins_again_when_the_system_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = FakeSystem(tmp_path, idle_s=3600.0)
    process = runner(system, monkeypatch)
    running = asyncio.create_task(process.run())
    await system.until(1)
    system.members[0].lost.set()
    await system.until(2)
    process.stop()
    await running
    assert [(member.left, member.closed) for member in system.members] == [(False, True), (True, True)]


async def test_it_takes_a_new_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = FakeSystem(tmp_path, idle_s=3600.0)
    process = runner(system, monkeypatch)
    running = asyncio.create_task(process.run())
    await system.until(1)
    while system.members[0].on_configure is None:
        await asyncio.sleep(0)
    changed = system.config.model_copy(update={"description": "changed"})
    system.members[0].on_configure(dump(changed))
    assert system.clients[0].config.description == "changed"
    process.stop()
    await running
