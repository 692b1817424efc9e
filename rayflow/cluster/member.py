"""How a process becomes an actor: it listens, joins the coordinator, is told what to be, and takes messages until it is
told to end.

The same steps run in a Ray actor, in the in-process backend, and (for the joining half) in ingress processes and
clients.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import DeadlineExceeded, FabricError, Unavailable
from rayflow.messages import Ack, Directory, Drain, Drained, Endpoint, Join, Leave, Ping, Pong, Ready, Welcome
from rayflow.runtime.ports import Actor, Backend, Fabric, Supervising
from rayflow.runtime.roster import COORDINATOR, NODE

JOIN_S = 60.0
RETRY_S = 0.1

Builder = Callable[[str, str, bytes, Fabric], Actor]
"""(role, address, configuration as JSON, fabric) -> the actor."""


class Builders(Protocol):
    """What the composition root provides, so that processes need not know what actors are made of."""

    def build_actor(self, role: str, address: str, config: bytes, fabric: Fabric) -> Actor: ...

    def build_coordinator(self, fabric: Fabric, backend: Backend) -> Supervising: ...


class Member:
    """One process of the system. `ended` is set when it was drained and stopped."""

    def __init__(self, fabric: Fabric, address: str, role: str, epoch: int = 0) -> None:
        self.fabric = fabric
        self.address = address
        self.role = role
        self.epoch = epoch
        self.ended = asyncio.Event()
        self._actor: Actor | None = None
        self.on_drain: Callable[[float], Awaitable[list[str]]] | None = None

    async def join(self, patience_s: float = JOIN_S) -> bytes:
        """Join the coordinator and return the workflow's configuration as JSON.

        A coordinator that is not there yet (or not launched) is asked again for `patience_s`; then `Unavailable`.
        """
        self.fabric.bind(NODE + self.address, {Directory: self._learn, Ping: self._pong, Drain: self._drain})
        join = Join(Endpoint(self.address, self.fabric.endpoint, self.epoch), os.getpid(), self.role)
        until = SYSTEM_CLOCK.now() + patience_s
        while True:
            try:
                welcome: Welcome = await self.fabric.ask(COORDINATOR, join, patience_s)
            except (FabricError, Unavailable, DeadlineExceeded) as error:
                if SYSTEM_CLOCK.now() > until:
                    raise Unavailable(f"{self.address} could not join the coordinator: {error.message}") from error
                await asyncio.sleep(RETRY_S)
                continue
            self._learn(welcome.directory)
            return welcome.config

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
        self.fabric.bind(self.address, actor.handlers)
        boot = {"join": welcomed - started, "build": built - welcomed, "start": SYSTEM_CLOCK.now() - built}
        self.fabric.tell(COORDINATOR, Ready(self.address, {step: round(s, 3) for step, s in boot.items()}))

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
        if self._actor is not None:
            self.fabric.unbind(self.address)
            await self._actor.stop()
            self._actor = None
        self.fabric.unbind(NODE + self.address)
        self.ended.set()

    def _learn(self, directory: Directory) -> Ack:
        self.fabric.directory.update(directory)
        return Ack()

    def _pong(self, _: Ping) -> Pong:
        return Pong(self.address, os.getpid())

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


def coordinator_entry(run_dir: Path) -> Endpoint:
    """Where the coordinator of the system with this run folder listens."""
    return Endpoint(COORDINATOR, f"unix:{run_dir / 'coordinator.sock'}")


def socket_path(run_dir: Path, address: str, epoch: int) -> str:
    """The endpoint of one incarnation of an actor."""
    return f"unix:{run_dir / (address.replace('/', '-') + f'.{epoch}.sock')}"


def read_secret(run_dir: Path) -> bytes:
    """The cluster secret. Raises `Unavailable` where no system runs."""
    try:
        return (run_dir / "secret").read_bytes()
    except OSError as error:
        raise Unavailable(f"no system runs at {run_dir}: {error.strerror}") from error
