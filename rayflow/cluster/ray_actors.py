"""The Ray actor classes: one per role, so that `ray list actors` reads like the design.

Ray gives them a process, a name and a life; everything they say goes over the fabric. Their only Ray method is `run`,
which lasts as long as the actor does: its failure is Ray's notice of death. A coordinator that was started anew calls
it again and waits for the end of the same life.
"""

from __future__ import annotations

import asyncio
import logging
import os
from importlib import import_module
from pathlib import Path
from typing import cast

import msgspec

from rayflow import collector
from rayflow.cluster.member import Builders, Member
from rayflow.cluster.ray_blobs import RayBlobs
from rayflow.cluster.site import Site, read_secret
from rayflow.messages import Endpoint

log = logging.getLogger(__name__)


class Boot(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process must know before it can ask the coordinator. Ray sees it.

    `builders`: module of the composition root, which has the functions of `member.Builders`. `host`: address of the
    process's machine for other machines, "" where there are none. `secret` is only set on other machines than the
    coordinator's, which cannot read the run folder: whoever can read Ray's arguments there can run code as this user
    anyway. Keys of model endpoints never travel here.
    """

    address: str
    role: str
    epoch: int
    run_dir: str
    builders: str
    coordinator: Endpoint
    node: str = ""
    host: str = ""
    secret: bytes = b""

    def site(self) -> Site:
        run_dir = Path(self.run_dir)
        site = Site(run_dir, self.secret or read_secret(run_dir), self.node, self.host)
        if self.secret:
            site.settle()
        return site


class RayProcess:
    """Base of all roles."""

    def __init__(self, boot: bytes) -> None:
        self._boot = msgspec.msgpack.decode(boot, type=Boot)
        # Here and not in `run`: of an actor that Ray starts again it repeats the call later each time it died.
        self._life = asyncio.get_running_loop().create_task(self._live())

    async def run(self) -> str:
        """Returns when the actor was drained and stopped; raises when it could not start."""
        return await asyncio.shield(self._life)

    async def _live(self) -> str:
        boot, site = self._boot, self._boot.site()
        fabric = site.fabric(boot.address, boot.epoch, RayBlobs())
        await fabric.start()
        fabric.directory.put(boot.coordinator)
        member = Member(fabric, boot.address, boot.role, boot.epoch, node=site.node, tcp=fabric.tcp)
        fabric.on_lost(member.peer_lost)
        try:
            await member.become(builders(boot.builders).build_actor)
            collector.settle()
            await _first(member.ended, member.lost)
            if member.lost.is_set():
                await member.end()
        finally:
            await fabric.close()
        if member.lost.is_set():
            log.error("%s ends: the coordinator went away and none came back", boot.address)
            # Nobody is left who could end this process.
            os._exit(1)
        return "ended"


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


class EventLog(RayProcess):
    """Writes events to Parquet."""


class SessionStore(RayProcess):
    """Owns a shard of all sessions."""


class Accounts(RayProcess):
    """Keeps the books of limits and budgets."""


class Aggregator(RayProcess):
    """Joins the parts of several agents."""


class Agent(RayProcess):
    """One replica of an agent."""


class Router(RayProcess):
    """Takes runs in and drives them."""


class Feeder(RayProcess):
    """Runs rows of batch jobs."""


BY_ROLE: dict[str, type[RayProcess]] = {
    "eventlog": EventLog,
    "session": SessionStore,
    "accounts": Accounts,
    "aggregator": Aggregator,
    "agent": Agent,
    "router": Router,
    "feeder": Feeder,
}


def builders(module: str) -> Builders:
    """The composition root, by name: this room must not import it."""
    return cast(Builders, import_module(module))
