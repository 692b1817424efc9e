"""Get at sessions whether a system runs or not: through the one that serves from the state folder, or at the stores
themselves, with the folder locked so that nobody starts meanwhile."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from rayflow.actors.outbox import Outbox
from rayflow.app.attach import settled, visit
from rayflow.app.build import remembering
from rayflow.app.client import SystemClient
from rayflow.app.state import owned, read_run_file
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.load import load_or_example
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import NotFound, Unavailable
from rayflow.policies.placement import shard_addresses


@asynccontextmanager
async def open_sessions(
    workflow: Path | None, state: Path | None = None, *, make: bool = False
) -> AsyncIterator[SystemClient]:
    """A client whose sessions can be asked; nothing else of it can where no system runs.

    `workflow`: its `session` section says where they are, where no system runs. `make`: whether a state folder is made
    where there is none. Raises `ConfigurationError`, `NotFound`, `Unavailable`, `StorageError`.
    """
    config = settled(load_or_example(workflow), state)
    folder = Path(config.storage.state)
    if read_run_file(folder) is not None:
        async with visit(folder) as (_, client):
            yield client
        return
    if config.session.store == "memory":
        raise Unavailable("session.store is memory: no system runs, and its sessions ended with it")
    if config.session.store == "sqlite" and not (make or (folder / "sessions").exists()):
        raise NotFound(f"there are no sessions in {folder}: name the state folder with --state", path=str(folder))
    with owned(folder):
        async with stores(config) as client:
            yield client


@asynccontextmanager
async def stores(config: WorkflowConfig) -> AsyncIterator[SystemClient]:
    """A client of the session stores of this configuration, opened for this context and nobody else."""
    from rayflow.actors.sessions import Sessions
    from rayflow.stores.factory import build

    fabric = InProcessFabric()
    async with AsyncExitStack() as stack:
        for shard, address in enumerate(shard_addresses(config.session.shards)):
            store, outbox = build(config, shard), Outbox(fabric, enabled=False)
            actor = remembering(address, config, Sessions(address, store, outbox, SYSTEM_CLOCK), store, outbox)
            await actor.start()
            stack.push_async_callback(actor.stop)
            fabric.bind(address, actor.handlers)
        yield SystemClient(fabric, f"client/sessions-{os.getpid()}", config)
