"""How a process becomes an actor: it listens, joins the coordinator, is told what to be, and takes messages until it is
told to end. When it loses the coordinator it goes on working and looks for the next one.

The same steps run in a Ray actor, in the in-process backend, and (for the joining half) in ingress processes and
clients.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import DeadlineExceeded, FabricError, Unavailable
from rayflow.messages import (
    Ack,
    Configure,
    Directory,
    Drain,
    Drained,
    Endpoint,
    GetLinks,
    Join,
    Leave,
    Links,
    Payload,
    Ping,
    Pong,
    Ready,
    Welcome,
)
from rayflow.runtime.ports import Actor, Backend, Fabric, Handler, Record, Supervising
from rayflow.runtime.roster import COORDINATOR, node_address

JOIN_S = 60.0
RETRY_S = 0.1
LOST_S = 30.0
"""A coordinator that restarts is back in a second or two; after so long there is none."""

Builder = Callable[[str, str, bytes, Fabric], Actor]
"""(role, address, configuration as JSON, fabric) -> the actor."""


class Builders(Protocol):
    """What the composition root provides, so that processes need not know what actors are made of."""

    def build_actor(self, role: str, address: str, config: bytes, fabric: Fabric) -> Actor: ...

    def build_coordinator(self, fabric: Fabric, backend: Backend, record: Record) -> Supervising: ...

    def build_record(self, run_dir: Path, run: str) -> Record:
        """`run`: identity of the run of this system; another run's record counts for nothing."""
        ...


class Member:
    """One process of the system, in one incarnation; `node` and `tcp` as in `Endpoint`.

    `ended` is set when it was drained and stopped, `lost` when its coordinator went away and no other came.
    """

    def __init__(
        self, fabric: Fabric, address: str, role: str, epoch: int = 0, *, node: str = "", tcp: str = ""
    ) -> None:
        self.fabric = fabric
        self.address = address
        self.role = role
        self.epoch = epoch
        self.ended = asyncio.Event()
        self.lost = asyncio.Event()
        self.on_drain: Callable[[float], Awaitable[list[str]]] | None = None
        self.on_configure: Callable[[bytes], None] | None = None
        self._node = node_address(address, epoch)
        self._entry = Endpoint(address, fabric.endpoint, epoch, node, tcp)
        self._actor: Actor | None = None
        self._config = b""
        self._ready = False
        self._rejoining: asyncio.Task[None] | None = None

    async def join(self, patience_s: float = JOIN_S) -> bytes:
        """Join the coordinator and return the workflow's configuration as JSON.

        A coordinator that is not there yet (or not launched) is asked again for `patience_s`; then `Unavailable`.
        """
        self.fabric.bind(self._node, self._own_handlers())
        until = SYSTEM_CLOCK.now() + patience_s
        while True:
            join = Join(self._entry, os.getpid(), self.role, self._ready)
            try:
                welcome: Welcome = await self.fabric.ask(COORDINATOR, join, patience_s)
            except (FabricError, Unavailable, DeadlineExceeded) as error:
                if SYSTEM_CLOCK.now() > until:
                    raise Unavailable(f"{self.address} could not join the coordinator: {error.message}") from error
                await asyncio.sleep(RETRY_S)
                continue
            self._learn(welcome.directory)
            self._config = welcome.config
            return welcome.config

    def peer_lost(self, endpoint: str) -> None:
        """The fabric lost a connection. Where it was the coordinator's, join whoever comes next; `lost` is set when
        nobody does."""
        known = self._config and endpoint == self.fabric.directory.endpoint(COORDINATOR)
        if known and self._rejoining is None:
            self._rejoining = asyncio.get_running_loop().create_task(self._rejoin())

    async def _rejoin(self) -> None:
        before = self._config
        try:
            config = await self.join(LOST_S)
        except Unavailable:
            self.lost.set()
            return
        self._rejoining = None
        if config != before and self.on_configure is not None:
            self.on_configure(config)

    async def become(self, build: Builder) -> None:
        """Join, build the actor of our role, and take messages. Returns early when told to end before it was
        welcome."""
        started = SYSTEM_CLOCK.now()
        config = await self._welcome()
        if config is None:
            return
        welcomed = SYSTEM_CLOCK.now()
        actor = self._actor = build(self.role, self.address, config, self.fabric)
        built = SYSTEM_CLOCK.now()
        await actor.start()
        self.fabric.bind(self.address, actor.handlers, epoch=self.epoch)
        self._ready = True
        boot = {"join": welcomed - started, "build": built - welcomed, "start": SYSTEM_CLOCK.now() - built}
        boot = {step: round(s, 3) for step, s in boot.items()}
        self.fabric.tell(COORDINATOR, Ready(self.address, boot, self.epoch))

    async def _welcome(self) -> bytes | None:
        joining, ending = asyncio.ensure_future(self.join()), asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({joining, ending}, return_when=asyncio.FIRST_COMPLETED)
            return joining.result() if joining.done() else None
        finally:
            joining.cancel()
            ending.cancel()
            await asyncio.gather(joining, ending, return_exceptions=True)

    async def leave(self) -> None:
        """End without being asked to: tell the coordinator, so that it does not take us for dead."""
        self.fabric.tell(COORDINATOR, Leave(self.address))
        await self.end()

    async def end(self) -> None:
        """Stop the actor and take no more messages."""
        if self._rejoining is not None:
            self._rejoining.cancel()
        if self._actor is not None:
            self.fabric.unbind(self.address)
            await self._actor.stop()
            self._actor = None
        self.fabric.unbind(self._node)
        self.ended.set()

    def _own_handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            Directory: self._learn,
            Configure: self._configure,
            Drain: self._drain,
            Ping: lambda _: Pong(self.address, os.getpid()),
            GetLinks: lambda _: Links(self.fabric.links()),
        }

    def _learn(self, directory: Directory) -> Ack:
        self.fabric.directory.update(directory)
        return Ack()

    def _configure(self, message: Configure) -> Ack:
        self._config = message.config
        if self.on_configure is not None:
            self.on_configure(message.config)
        return Ack()

    async def _drain(self, request: Drain) -> Drained:
        """Finish what is in flight, then end. The reply leaves before the process does."""
        left: list[str] = []
        if self._actor is not None:
            left = await self._actor.drain(request.budget_s)
        elif self.on_drain is not None:
            left = await self.on_drain(request.budget_s)
        asyncio.get_running_loop().call_soon(self._end_soon)
        return Drained(left)

    def _end_soon(self) -> None:
        self._ending = asyncio.get_running_loop().create_task(self.end())
