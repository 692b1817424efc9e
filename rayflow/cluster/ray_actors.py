"""The Ray actor classes: one per role, so that `ray list actors` reads like the design.

Ray gives them a process, a name and a life; everything they say goes over the fabric. Their only Ray method is `run`,
which lasts as long as the actor does: its failure is Ray's notice of death.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

import msgspec

from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.cluster.member import Builders, Member, coordinator_entry, read_secret, socket_path


class Boot(msgspec.Struct, frozen=True):
    """What a process must know before it can ask the coordinator. It holds no secret: Ray sees it.

    `builders`: module of the composition root, which has the functions of `member.Builders`.
    """

    address: str
    role: str
    epoch: int
    run_dir: str
    builders: str


class RayProcess:
    """Base of all roles."""

    def __init__(self, boot: bytes) -> None:
        self._boot = msgspec.msgpack.decode(boot, type=Boot)

    async def run(self) -> str:
        """Live. Returns when the actor was drained and stopped; raises when it could not start."""
        boot = self._boot
        run_dir = Path(boot.run_dir)
        fabric = SocketFabric(socket_path(run_dir, boot.address, boot.epoch), read_secret(run_dir))
        await fabric.start()
        fabric.directory.put(coordinator_entry(run_dir))
        member = Member(fabric, boot.address, boot.role, boot.epoch)
        try:
            await member.become(builders(boot.builders).build_actor)
            await member.ended.wait()
        finally:
            await fabric.close()
        return "ended"


class EventLog(RayProcess):
    """Writes events to Parquet."""


class SessionStore(RayProcess):
    """Owns a shard of all sessions."""


class Aggregator(RayProcess):
    """Joins the parts of several agents."""


class Agent(RayProcess):
    """One replica of an agent."""


class Router(RayProcess):
    """Takes runs in and drives them."""


BY_ROLE: dict[str, type[RayProcess]] = {
    "eventlog": EventLog,
    "session": SessionStore,
    "aggregator": Aggregator,
    "agent": Agent,
    "router": Router,
}


def builders(module: str) -> Builders:
    """The composition root, by name: this room must not import it."""
    return cast(Builders, import_module(module))
