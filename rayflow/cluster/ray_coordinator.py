"""The coordinator's Ray actor. It is apart from the others because it alone starts actors itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.cluster.member import coordinator_entry, read_secret
from rayflow.cluster.ray_actors import RayProcess, builders
from rayflow.cluster.ray_backend import RayBackend
from rayflow.runtime.roster import COORDINATOR


class Coordinator(RayProcess):
    """Supervises all others."""

    async def run(self) -> str:
        """Until Ray ends this process."""
        boot = self._boot
        run_dir = Path(boot.run_dir)
        fabric = SocketFabric(coordinator_entry(run_dir).endpoint, read_secret(run_dir))
        actor = builders(boot.builders).build_coordinator(fabric, RayBackend(run_dir, boot.builders))
        fabric.bind(COORDINATOR, actor.handlers)
        fabric.on_lost(actor.peer_lost)
        await fabric.start()
        await actor.start()
        await asyncio.Event().wait()
        return "ended"
