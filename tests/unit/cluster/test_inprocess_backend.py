"""Processes that are tasks: spawned, killed, adopted, and two at one address for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.inprocess import InProcessBackend
from rayflow.errors import UnknownAddress
from rayflow.messages import Directory, Drain, Drained, Join, Payload, Ping, Pong, Ready, Welcome
from rayflow.runtime.ports import ENDED, Fabric, Handler
from rayflow.runtime.roster import COORDINATOR, node_address

PATIENCE_S = 5.0


class Echo:
    """Says by its number which of all that were built it is."""

    def __init__(self, number: int) -> None:
        self._number = number

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {Ping: lambda _: Pong("a", self._number)}

    async def start(self) -> None:
        """Nothing to open."""

    async def drain(self, budget_s: float) -> list[str]:
        return []

    async def stop(self) -> None:
        """Nothing to give back."""


class Stage:
    def __init__(self) -> None:
        self.fabric = InProcessFabric()
        self.built = 0
        self.ready: asyncio.Queue[Ready] = asyncio.Queue()
        self.exits: asyncio.Queue[tuple[str, int, str]] = asyncio.Queue()
        handlers: dict[type[Payload], Handler] = {
            Join: lambda _: Welcome(b"{}", Directory(1, [])),
            Ready: self.ready.put_nowait,
        }
        self.fabric.bind(COORDINATOR, handlers)
        self.backend = self.new_backend()

    def new_backend(self, of: InProcessBackend | None = None) -> InProcessBackend:
        backend = InProcessBackend(self.fabric, self.build, of.machine if of else None)
        backend.on_exit(lambda *exit: self.exits.put_nowait(exit))
        return backend

    def build(self, role: str, address: str, config: bytes, fabric: Fabric) -> Echo:
        self.built += 1
        return Echo(self.built)

    async def spawn(self, epoch: int) -> None:
        await self.backend.spawn("a", "agent", epoch)
        await asyncio.wait_for(self.ready.get(), PATIENCE_S)

    async def who(self) -> int:
        pong: Pong = await self.fabric.ask("a", Ping(), PATIENCE_S)
        return pong.pid

    async def exit(self) -> tuple[str, int, str]:
        return await asyncio.wait_for(self.exits.get(), PATIENCE_S)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    for process in list(made.backend.machine.tasks):
        await made.backend.kill(*process)


async def test_a_killed_process_is_gone_and_its_address_with_it(stage: Stage) -> None:
    await stage.spawn(1)
    await stage.backend.kill("a", 1)
    assert await stage.exit() == ("a", 1, "killed")
    with pytest.raises(UnknownAddress):
        await stage.who()
    await stage.backend.kill("a", 1)


async def test_the_newer_of_two_has_the_address_and_keeps_it_when_the_older_one_ends(stage: Stage) -> None:
    await stage.spawn(1)
    await stage.spawn(2)
    assert await stage.who() == 2
    drained = await stage.fabric.ask(node_address("a", 1), Drain(1.0), PATIENCE_S)
    assert drained == Drained([])
    assert await stage.exit() == ("a", 1, ENDED)
    assert await stage.who() == 2
    with pytest.raises(UnknownAddress):
        await stage.fabric.ask(node_address("a", 1), Ping(), PATIENCE_S)


async def test_a_later_backend_adopts_who_lives_and_hears_of_its_end(stage: Stage) -> None:
    await stage.spawn(1)
    later = stage.new_backend(stage.backend)
    stage.backend.on_exit(lambda *_: None)
    assert await later.adopt("a", 1, "")
    assert not await later.adopt("a", 2, "")
    await later.kill("a", 1)
    assert await stage.exit() == ("a", 1, "killed")
