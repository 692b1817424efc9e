"""The coordinator starts, watches, restarts and stops what the roster says, on a backend whose processes are tasks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from actor_doubles import PATIENCE_S, config, settle
from msgspec import structs

from rayflow.actors.coordinator import Coordinator
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.inprocess import InProcessBackend
from rayflow.cluster.member import Member
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import ConfigurationError, Unavailable, UnknownAddress, WorkflowError
from rayflow.events import Event
from rayflow.messages import (
    Drained,
    Endpoint,
    EventBatch,
    GetStatus,
    Join,
    Launch,
    Payload,
    Ping,
    Pong,
    Shutdown,
    Status,
    Welcome,
)
from rayflow.policies.restart import RestartPolicy
from rayflow.runtime.ports import Fabric, Handler
from rayflow.runtime.roster import COORDINATOR


class Stub:
    """An actor that tells the world when it starts, drains and stops."""

    def __init__(self, world: World, address: str) -> None:
        self._world = world
        self._address = address

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            Ping: lambda _: Pong(self._address, 1),
            EventBatch: lambda batch: self._world.events.extend(batch.events),
        }

    async def start(self) -> None:
        self._world.say("start", self._address)
        if fault := self._world.faults.get(self._address):
            raise fault()

    async def drain(self, budget_s: float) -> list[str]:
        self._world.say("drain", self._address)
        return self._world.left.get(self._address, [])

    async def stop(self) -> None:
        self._world.say("stop", self._address)
        if self._address in self._world.stuck:
            await asyncio.Event().wait()


@dataclass
class World:
    fabric: InProcessFabric = field(default_factory=InProcessFabric)
    said: list[tuple[str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    faults: dict[str, Callable[[], Exception]] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    """Actors whose `stop` never returns."""
    coordinator: Coordinator = field(init=False)
    backend: InProcessBackend = field(init=False)
    config: WorkflowConfig = field(default_factory=lambda: config({"name": "a"}, processing={"drain_s": 0.2}))

    def build(self, role: str, address: str, data: bytes, fabric: Fabric) -> Stub:
        return Stub(self, address)

    def say(self, what: str, address: str) -> None:
        self.said.append((what, address))

    def order(self, what: str) -> list[str]:
        return [address for said, address in self.said if said == what]

    async def launch(self) -> Status:
        status: Status = await self.fabric.ask(COORDINATOR, Launch(dump(self.config)), PATIENCE_S)
        return status

    async def status(self) -> dict[str, str]:
        status: Status = await self.fabric.ask(COORDINATOR, GetStatus(), PATIENCE_S)
        return {actor.address: actor.state for actor in status.actors}

    async def shutdown(self) -> list[str]:
        drained: Drained = await self.fabric.ask(COORDINATOR, Shutdown("test", 0.2), PATIENCE_S)
        return drained.left

    async def until(self, address: str, state: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.status())[address] != state:
                await asyncio.sleep(0.001)

    def kinds(self, source: str) -> list[str]:
        self.coordinator._outbox.flush()
        return [event.kind for event in self.events if event.source == source]


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    made.backend = InProcessBackend(made.fabric, made.build)
    made.coordinator = Coordinator(made.fabric, made.backend, SYSTEM_CLOCK, random.Random(1))
    made.fabric.bind(COORDINATOR, made.coordinator.handlers)
    await made.coordinator.start()
    yield made
    await made.coordinator.stop()
    for task in list(made.backend._tasks.values()):
        task.cancel()
    await settle()


def hasten(world: World) -> None:
    """Restarts without waits from now on."""
    for child in world.coordinator._supervisor.children.values():
        child.spec = replace(child.spec, restart=RestartPolicy(base_delay_s=0.0))


ALL = ["eventlog/0", "session/0", "aggregator/0", "agent/a/0", "router/0"]


async def test_everything_starts_in_order_and_the_launch_says_so() -> None:
    async with world() as w:
        status = await w.launch()
        assert status.state == "ready"
        assert w.order("start") == ALL
        assert {actor.address for actor in status.actors} == {COORDINATOR, *ALL}
        assert set(ALL) < set(status.timeline)
        assert await w.fabric.ask("router/0", Ping(), PATIENCE_S) == Pong("router/0", 1)


async def test_everything_stops_in_reverse_after_a_drain() -> None:
    async with world() as w:
        await w.launch()
        w.left["agent/a/0"] = ["run_1"]
        assert await w.shutdown() == ["run_1"]
        assert w.order("drain") == w.order("stop") == ALL[::-1]
        with pytest.raises(UnknownAddress):
            await w.fabric.ask("router/0", Ping(), PATIENCE_S)


async def test_what_happens_is_in_the_log() -> None:
    async with world() as w:
        await w.launch()
        w.coordinator._outbox.flush()
        await settle()
        assert w.kinds("router/0") == ["actor.started"]
        assert w.kinds(COORDINATOR) == ["system.started"]


async def test_a_killed_actor_is_started_again() -> None:
    async with world() as w:
        await w.launch()
        await w.backend.kill("agent/a/0")
        await settle()
        await w.until("agent/a/0", "ready")
        assert w.order("start").count("agent/a/0") == 2
        w.coordinator._outbox.flush()
        await settle()
        assert w.kinds("agent/a/0") == ["actor.started", "actor.lost", "actor.restarted", "actor.started"]


async def test_an_actor_that_dies_too_often_is_parked_and_the_others_stay_up() -> None:
    async with world() as w:
        await w.launch()
        hasten(w)
        w.faults["agent/a/0"] = lambda: ConfigurationError("no key for this model")
        await w.backend.kill("agent/a/0")
        await w.until("agent/a/0", "parked")
        states = await w.status()
        assert {state for address, state in states.items() if address != "agent/a/0"} == {"ready"}
        status: Status = await w.fabric.ask(COORDINATOR, GetStatus(), PATIENCE_S)
        assert status.state == "degraded"
        assert [actor.detail for actor in status.actors if actor.address == "agent/a/0"] == ["no key for this model"]


@pytest.mark.parametrize("failing", ["eventlog/0", "agent/a/0", "router/0"])
async def test_a_launch_that_fails_says_why_and_everything_can_be_stopped(failing: str) -> None:
    async with world() as w:
        w.faults[failing] = lambda: ConfigurationError("no key for this model")
        launching = asyncio.create_task(w.launch())
        await settle()
        hasten(w)
        with pytest.raises(Unavailable, match=f"{failing}: no key for this model"):
            await launching
        await w.shutdown()
        assert set((await w.status()).values()) <= {"stopped", "ready"}
        assert not w.backend._tasks


async def test_a_shutdown_while_starting_ends() -> None:
    async with world() as w:
        launching = asyncio.create_task(w.launch())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await w.shutdown()
        with pytest.raises(WorkflowError):
            await asyncio.wait_for(launching, PATIENCE_S)
        assert not w.backend._tasks


async def test_a_second_launch_is_refused() -> None:
    async with world() as w:
        await w.launch()
        with pytest.raises(WorkflowError, match="already runs"):
            await w.launch()


async def test_before_the_launch_nobody_can_join() -> None:
    async with world() as w:
        join = Join(Endpoint("client/1", w.fabric.endpoint), 1, "client")
        with pytest.raises(Unavailable) as caught:
            await w.fabric.ask(COORDINATOR, join, PATIENCE_S)
        assert caught.value.retry_after_s == 1


async def test_a_client_is_welcomed_at_once_and_forgotten_when_it_leaves() -> None:
    async with world() as w:
        await w.launch()
        member = Member(w.fabric, "client/1", "client")
        assert await member.join() == dump(w.config)
        assert (await w.status())["client/1"] == "ready"
        await member.leave()
        await settle()
        assert "client/1" not in await w.status()


async def test_a_client_whose_connection_breaks_is_forgotten_too() -> None:
    async with world() as w:
        await w.launch()
        welcome = await w.fabric.ask(COORDINATOR, Join(Endpoint("client/1", "unix:/gone"), 1, "client"), PATIENCE_S)
        assert isinstance(welcome, Welcome)
        w.coordinator.peer_lost("unix:/gone")
        assert "client/1" not in await w.status()


async def test_a_death_is_counted_once_however_often_it_is_reported() -> None:
    async with world() as w:
        await w.launch()
        w.coordinator._on_exit("router/0", 1, "killed")
        w.coordinator._on_exit("router/0", 1, "killed")
        w.coordinator._on_exit("router/0", 0, "late")
        assert w.coordinator._supervisor.children["router/0"].restarts == 1


async def test_a_child_that_joins_again_after_its_admission_is_not_left_waiting() -> None:
    """Its first `Join` was given up just before its turn came."""
    async with world() as w:
        w.faults["eventlog/0"] = lambda: ConfigurationError("never")
        launching = asyncio.create_task(w.launch())
        await settle()
        join = Join(Endpoint("router/0", w.fabric.endpoint, 1), 1, "router")
        await w.backend.kill("router/0")
        given_up = asyncio.create_task(w.fabric.ask(COORDINATOR, join, PATIENCE_S))
        await settle()
        given_up.cancel()
        await settle()
        supervisor = w.coordinator._supervisor
        child = supervisor.children["router/0"]
        child.state, child.epoch = "starting", 1
        again = await asyncio.wait_for(w.fabric.ask(COORDINATOR, join, PATIENCE_S), 1.0)
        assert isinstance(again, Welcome)
        launching.cancel()


async def test_a_child_that_was_given_up_on_is_killed() -> None:
    async with world() as w:
        await w.launch()
        w.stuck.add("router/0")
        await asyncio.wait_for(w.shutdown(), PATIENCE_S)
        assert w.order("stop") == ALL[::-1]


async def test_a_child_that_only_lost_its_connection_is_ended_before_another_takes_its_place() -> None:
    async with world() as w:
        await w.launch()
        first = w.backend._tasks["router/0"]
        join = w.coordinator._members["router/0"]
        w.coordinator._members["router/0"] = structs.replace(join, entry=Endpoint("router/0", "unix:/router", 1))
        w.coordinator.peer_lost("unix:/router")
        await settle()
        assert first.done()
        await w.until("router/0", "ready")
