"""A coordinator, its in-process backend and a fabric, with actors that do nothing but say so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from actor_doubles import PATIENCE_S, config, settle
from support.batches import events_of

from rayflow.actors.coordinator import Coordinator
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.inprocess import InProcessBackend, Machine
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump, restore
from rayflow.errors import ConfigurationError
from rayflow.events import Event
from rayflow.messages import (
    ActorStatus,
    Configure,
    Demand,
    Drained,
    Endpoint,
    EventBatch,
    GetDemand,
    GetStatus,
    Join,
    Launch,
    Payload,
    Ping,
    Pong,
    Reconfigure,
    Reconfigured,
    Shutdown,
    Status,
    Welcome,
)
from rayflow.policies.restart import RestartPolicy
from rayflow.runtime.ports import Fabric, Handler
from rayflow.runtime.roster import COORDINATOR, node_address
from rayflow.stores.record import MemoryRecord


class Stub:
    """An actor that tells the world when it starts, drains and stops."""

    def __init__(self, world: World, address: str, config: WorkflowConfig) -> None:
        self._world = world
        self.address = address
        self.config = config

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            Ping: lambda _: Pong(self.address, 1),
            EventBatch: lambda batch: self._world.events.extend(events_of(batch)),
            GetDemand: lambda question: self._world.answers[GetDemand](question),
        }

    async def start(self) -> None:
        self._world.say("start", self.address)
        self._world.living.add(self)
        if fault := self._world.faults.get(self.address):
            raise fault()
        if self.config.version in self._world.broken_versions:
            raise ConfigurationError("this version cannot work")
        if self.address in self._world.slow:
            await self._world.slow[self.address].wait()

    async def drain(self, budget_s: float) -> list[str]:
        self._world.say("drain", self.address)
        self._world.on_drain()
        return self._world.left.get(self.address, [])

    async def stop(self) -> None:
        self._world.say("stop", self.address)
        self._world.living.discard(self)
        if self.address in self._world.stuck:
            await asyncio.Event().wait()


@dataclass
class World:
    fabric: InProcessFabric = field(default_factory=InProcessFabric)
    said: list[tuple[str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    faults: dict[str, Callable[[], Exception]] = field(default_factory=dict)
    broken_versions: set[str] = field(default_factory=set)
    """Of the configuration: no actor can be built from it."""
    left: dict[str, list[str]] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    """Actors whose `stop` never returns."""
    slow: dict[str, asyncio.Event] = field(default_factory=dict)
    """Actors that start only when the event is set."""
    answers: dict[type[Payload], Handler] = field(default_factory=lambda: {GetDemand: lambda _: Demand([])})
    """What actors say when they are asked."""
    on_drain: Callable[[], None] = lambda: None
    living: set[Stub] = field(default_factory=set)
    """Actors that were built and not stopped."""
    record: MemoryRecord = field(default_factory=MemoryRecord)
    machine: Machine = field(default_factory=Machine)
    coordinator: Coordinator = field(init=False)
    backend: InProcessBackend = field(init=False)
    config: WorkflowConfig = field(default_factory=lambda: config({"name": "a"}, processing={"drain_s": 0.2}))

    def build(self, role: str, address: str, data: bytes, fabric: Fabric) -> Stub:
        return Stub(self, address, restore(data))

    async def coordinate(self) -> None:
        """A coordinator comes up on what is there."""
        self.backend = InProcessBackend(self.fabric, self.build, self.machine)
        self.coordinator = Coordinator(self.fabric, self.backend, SYSTEM_CLOCK, random.Random(1), self.record)
        self.fabric.bind(COORDINATOR, self.coordinator.handlers)
        await self.coordinator.start()

    async def kill_coordinator(self) -> None:
        """It says goodbye to nobody."""
        self.backend.on_exit(lambda *_: None)
        self.fabric.unbind(COORDINATOR)
        await self.coordinator.stop()

    async def kill(self, address: str) -> None:
        await self.backend.kill(address, self.epoch(address))

    async def rejoin(self, address: str, epoch: int) -> None:
        """What a process does by itself when it loses the connection to the coordinator."""
        await settle()
        entry = Endpoint(address, self.fabric.endpoint, epoch)
        await self.fabric.ask(COORDINATOR, Join(entry, 1, address.partition("/")[0], ready=True), PATIENCE_S)

    async def guest(self, address: str) -> list[Configure]:
        """A process that is nobody's child joins. Returns what it is told to be."""
        told: list[Configure] = []
        self.fabric.bind(node_address(address, 0), {Ping: lambda _: Pong(address, 1), Configure: told.append})
        join = Join(Endpoint(address, self.fabric.endpoint), 1, "client")
        welcome: Welcome = await self.fabric.ask(COORDINATOR, join, PATIENCE_S)
        assert welcome.config
        return told

    def epoch(self, address: str) -> int:
        return self.coordinator._supervisor.children[address].epoch

    def say(self, what: str, address: str) -> None:
        self.said.append((what, address))

    def order(self, what: str) -> list[str]:
        return [address for said, address in self.said if said == what]

    async def launch(self) -> Status:
        status: Status = await self.fabric.ask(COORDINATOR, Launch(dump(self.config)), PATIENCE_S)
        return status

    async def reconfigure(self, target: WorkflowConfig) -> Reconfigured:
        done: Reconfigured = await self.fabric.ask(COORDINATOR, Reconfigure(dump(target)), PATIENCE_S)
        return done

    async def actors(self) -> dict[str, ActorStatus]:
        status: Status = await self.fabric.ask(COORDINATOR, GetStatus(), PATIENCE_S)
        return {actor.address: actor for actor in status.actors}

    async def status(self) -> dict[str, str]:
        return {address: actor.state for address, actor in (await self.actors()).items()}

    async def shutdown(self) -> list[str]:
        drained: Drained = await self.fabric.ask(COORDINATOR, Shutdown("test", 0.2), PATIENCE_S)
        return drained.left

    async def until(self, address: str, state: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.status()).get(address) != state:
                await asyncio.sleep(0.001)

    async def until_started(self, address: str, times: int = 1) -> None:
        """Wait until an actor at this address has begun to start so many times."""
        async with asyncio.timeout(PATIENCE_S):
            while self.order("start").count(address) < times:
                await asyncio.sleep(0.001)

    async def kinds(self, source: str) -> list[str]:
        self.coordinator._chronicle.flush()
        await settle()
        return [event.kind for event in self.events if event.source == source]

    def hasten(self) -> None:
        """Restarts without waits from now on."""
        for child in self.coordinator._supervisor.children.values():
            group = replace(child.spec.group, policy=RestartPolicy(base_delay_s=0.0))
            child.spec = replace(child.spec, group=group)


@asynccontextmanager
async def world(configuration: WorkflowConfig | None = None) -> AsyncIterator[World]:
    made = World() if configuration is None else World(config=configuration)
    await made.coordinate()
    try:
        yield made
    finally:
        await made.coordinator.stop()
        for address, epoch in list(made.machine.tasks):
            await made.backend.kill(address, epoch)
