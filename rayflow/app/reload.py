"""A running system goes over to the workflow file as it is now, without failing a request.

The process that serves does it, not the command that asks: what it reads is what it would start with, in its own
environment, and it keeps the new configuration for whatever it starts later. A file that is wrong, or that asks for
what only a restart can change, changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rayflow.app.control import Wake, controlled
from rayflow.cluster.site import Site
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import WorkflowError
from rayflow.messages import Reconfigure, Reconfigured
from rayflow.runtime.ports import Fabric
from rayflow.runtime.roster import COORDINATOR

log = logging.getLogger(__name__)

RECONFIGURE_S = 3600.0
"""Replacing every actor, one after the other, each with its drain budget. Who stops waiting would stop it half way."""

Read = Callable[[Path | None], WorkflowConfig]
"""Reads the workflow file that is served, or another one, as at the start. Raises `ConfigurationError`."""
GoOver = Callable[[WorkflowConfig], Awaitable[Reconfigured]]
"""Takes the system to this configuration. Raises `ConfigurationError` when nothing has changed."""


@asynccontextmanager
async def reloadable(run_dir: Path, read: Read, go_over: GoOver, wake: Wake = lambda: None) -> AsyncIterator[None]:
    """For as long as the context lasts, reload when a command or SIGHUP asks for it, one at a time. `wake`: called when
    a command says that there is a batch job."""
    turn = asyncio.Lock()
    hang_ups: set[asyncio.Task[None]] = set()

    async def reload(file: Path | None) -> Reconfigured:
        async with turn:
            return await go_over(read(file))

    async def hung_up() -> None:
        try:
            changed = await reload(None)
        except WorkflowError as error:
            log.error("the old configuration stays: %s", error.message)
        else:
            log.info("reloaded: %s", changed)

    def hang_up() -> None:
        task = asyncio.create_task(hung_up())
        hang_ups.add(task)
        task.add_done_callback(hang_ups.discard)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        async with controlled(run_dir, reload, wake):
            yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def ask_coordinator(fabric: Fabric, config: WorkflowConfig) -> Reconfigured:
    """Raises `ConfigurationError` for what needs a restart, and what else kept the coordinator from it."""
    changed: Reconfigured = await fabric.ask(COORDINATOR, Reconfigure(dump(config)), RECONFIGURE_S)
    return changed


async def ask_coordinator_at(run_dir: Path, config: WorkflowConfig) -> Reconfigured:
    """`ask_coordinator`, of the system with this run folder."""
    site = Site.of(run_dir)
    fabric = site.fabric("serve", os.getpid())
    await fabric.start()
    try:
        fabric.directory.put(site.coordinator)
        return await ask_coordinator(fabric, config)
    finally:
        await fabric.close()
