"""The coordinator's Ray actor. It is apart from the others because it alone starts actors itself.

Ray starts it again when it dies, for ever: it finds its children by name and its knowledge in the record. It ends when
nobody owns the system any more, so that a killed serve command leaves nothing behind on a cluster that lives on.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging

import ray

from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.cluster.ray_actors import RayProcess, builders
from rayflow.cluster.ray_backend import RayBackend
from rayflow.cluster.site import Site, read_secret
from rayflow.messages import Endpoint
from rayflow.runtime.roster import COORDINATOR

log = logging.getLogger(__name__)

OWNER_CHECK_S = 1.0
ORPHAN_DRAIN_S = 10.0


class Coordinator(RayProcess):
    """Supervises all others."""

    async def _live(self) -> str:
        boot, site = self._boot, self._boot.site()
        own = builders(boot.builders)
        fabric = await _listen(site)
        record = own.build_record(site.run_dir, site.namespace)
        here = Endpoint(COORDINATOR, fabric.endpoint, 0, site.node, fabric.tcp)
        actor = own.build_coordinator(fabric, RayBackend(site, here, boot.builders), record)
        fabric.bind(COORDINATOR, actor.handlers)
        fabric.on_lost(actor.peer_lost)
        await actor.start()
        await _until_orphaned(site)
        log.error("nobody owns this system any more: it ends")
        await actor.drain(ORPHAN_DRAIN_S)
        await actor.stop()
        await fabric.close()
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]
        return "ended"


async def _until_orphaned(site: Site) -> None:
    """The kernel says so to nobody: a lock that is dropped must be looked at."""
    while owned(site):  # noqa: ASYNC110
        await asyncio.sleep(OWNER_CHECK_S)


async def _listen(site: Site) -> SocketFabric:
    """On other machines, processes know the coordinator by its port: it is the same after a restart."""
    remembered = site.run_dir / "coordinator.port"
    port = int(remembered.read_text()) if remembered.exists() else 0
    fabric = site.listening(site.coordinator.endpoint, port)
    await fabric.start()
    if fabric.tcp:
        remembered.write_text(fabric.tcp.rpartition(":")[2])
    return fabric


def owned(site: Site) -> bool:
    """Whether somebody still holds the lock of the state folder (`lock` in the run folder leads to it) for this very
    system, and not for a later one."""
    try:
        with (site.run_dir / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_secret(site.run_dir) == site.secret
    except OSError:
        return False
    return False
