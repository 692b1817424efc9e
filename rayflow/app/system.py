"""A running system, from configuration to ready and back: on Ray, or within this process.

Both are async context managers that yield the fabric a client joins. They differ in where actors live and in nothing
else.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rayflow.app import build
from rayflow.app.client import SystemClient
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.cluster.inprocess import InProcessBackend
from rayflow.cluster.member import Member
from rayflow.cluster.ray_token import use_own_token
from rayflow.cluster.site import Site
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump, restore
from rayflow.errors import PeerLost
from rayflow.messages import Drained, Launch, Payload, Shutdown, Status
from rayflow.runtime.ports import Fabric
from rayflow.runtime.roster import COORDINATOR
from rayflow.stores.record import MemoryRecord

START_S = 120.0
PATIENCE_S = 30.0
"""How long a coordinator that does not listen is asked again."""


class System(ABC):
    """`status`: what the coordinator said when all actors were ready. `left`: work that the last drain cut."""

    status: Status
    fabric: Fabric
    left: list[str]

    def __init__(self, config: WorkflowConfig) -> None:
        self.config = config
        self.left = []
        self._node = self._tcp = ""

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def client(self, name: str) -> SystemClient:
        """A client under the address `client/NAME`."""
        member = Member(self.fabric, f"client/{name}", "client", node=self._node, tcp=self._tcp)
        await member.join()
        return SystemClient(self.fabric, member.address, self.config)

    async def _launch(self) -> None:
        self.status = await self._ask_coordinator(Launch(dump(self.config)), START_S)

    async def _ask_coordinator(self, message: Payload, timeout_s: float) -> Any:
        return await self.fabric.ask(COORDINATOR, message, timeout_s)

    async def shutdown(self, reason: str = "") -> Drained:
        """Drain and stop all actors. `left` names the work that was cut."""
        budget_s = self.config.processing.drain_s
        drained: Drained = await self._ask_coordinator(Shutdown(reason, budget_s), 3 * budget_s + 30)
        return drained


class InProcessSystem(System):
    """All actors on this event loop. `models`: who stands for the models (`build.build_actor`)."""

    def __init__(self, config: WorkflowConfig, models: build.Models | None = None) -> None:
        super().__init__(config)
        self._models = models

    async def __aenter__(self) -> Self:
        self.fabric = fabric = InProcessFabric()
        builder = build.build_actor if self._models is None else partial(build.build_actor, models=self._models)
        self._coordinator = build.build_coordinator(fabric, InProcessBackend(fabric, builder), MemoryRecord())
        fabric.bind(COORDINATOR, self._coordinator.handlers)
        await self._coordinator.start()
        try:
            await self._launch()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        await self.shutdown("closed")
        await self._coordinator.stop()
        self.fabric.unbind(COORDINATOR)


class RaySystem(System):
    """Actors on Ray. This process is the Ray driver: a local Ray is started unless `address` names a cluster.

    `run_dir`: the folder made by `state.owned`.
    """

    def __init__(self, config: WorkflowConfig, run_dir: Path, address: str | None = None) -> None:
        super().__init__(config)
        self._run_dir = run_dir
        self._address = address

    async def __aenter__(self) -> Self:
        if self._address is None:
            use_own_token(self._run_dir)
        from rayflow.cluster.ray_cluster import RayCluster

        lock = self._run_dir / "lock"
        lock.unlink(missing_ok=True)
        lock.symlink_to(Path(self.config.storage.state).absolute() / "lock")
        site = Site.before(self._run_dir)
        self._cluster = RayCluster(site, self._address, expected_actors=_expected_actors(self.config))
        try:
            await asyncio.to_thread(self._cluster.start, build.__name__)
            self.lost = asyncio.create_task(self._cluster.coordinator_lost())
            await self._listen(self._cluster.site)
            await self._launch()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self.lost.done():
                self.left = (await self.shutdown("closed")).left
        finally:
            await self._close()

    async def _listen(self, site: Site) -> None:
        self.fabric = self._socket_fabric = fabric = site.fabric("driver", os.getpid())
        await fabric.start()
        fabric.directory.put(site.coordinator)
        self._node, self._tcp = site.node, fabric.tcp

    async def _ask_coordinator(self, message: Payload, timeout_s: float) -> Any:
        """Its process takes a moment to listen, at the start and after it died."""
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                return await self.fabric.ask(COORDINATOR, message, timeout_s)
            except PeerLost:
                if self.lost.done() or asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(0.05)

    async def _close(self) -> None:
        if hasattr(self, "lost"):
            self.lost.cancel()
        await asyncio.to_thread(self._cluster.stop)
        if hasattr(self, "_socket_fabric"):
            await self._socket_fabric.close()


def _expected_actors(config: WorkflowConfig) -> int:
    from rayflow.runtime.roster import roster

    return len(roster(config)) + 1


class Attached(Member):
    """A process that joined a running system: it owns its fabric."""

    fabric: SocketFabric

    async def close(self) -> None:
        await self.fabric.close()


def started(run_dir: Path) -> bool:
    """Whether the system of this run folder has been up, so that joining it is a matter of a moment."""
    return Site.announced(run_dir)


async def attach(run_dir: Path, address: str, role: str, patience_s: float = 10.0) -> tuple[Attached, SystemClient]:
    """Join a system that runs already, as `address`. Raises `Unavailable` where it does not answer in time.

    Each attachment is an incarnation of its own, later ones with a higher epoch: where an earlier one listened may have
    been declared dead, and is refused from then on.
    """
    site = Site.of(run_dir)
    epoch = SYSTEM_CLOCK.wall_us()
    fabric = site.fabric(address, epoch)
    await fabric.start()
    fabric.directory.put(site.coordinator)
    member = Attached(fabric, address, role, epoch, node=site.node, tcp=fabric.tcp)
    fabric.on_lost(member.peer_lost)
    try:
        config = restore(await member.join(patience_s))
    except BaseException:
        await fabric.close()
        raise
    return member, SystemClient(fabric, address, config)
