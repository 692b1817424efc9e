"""`rayflow serve --in-process`: actors, HTTP and batch jobs on one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rayflow.api.http import create_app
from rayflow.api.metrics import Metrics
from rayflow.api.web import WebServer, listen
from rayflow.app.client import SystemClient
from rayflow.app.jobs.records import JobStore
from rayflow.app.port import Address, reserve
from rayflow.app.reload import Read, ask_coordinator, reloadable
from rayflow.app.state import RunFile, owned, write_run_file
from rayflow.app.system import InProcessSystem
from rayflow.app.telemetry import exporting
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Exit
from rayflow.messages import Reconfigured

log = logging.getLogger(__name__)


class Worker(Protocol):
    """Who runs the batch jobs that come in over HTTP; `rayflow.batch.desk.Desk` does."""

    async def run(self) -> None:
        """Until it is stopped, or has had nothing to do for a while."""
        ...

    def wake(self) -> None: ...

    def stop(self) -> None: ...


class OnCall:
    """Has a worker while there is something to do. `make` makes one."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make
        self._worker: Worker | None = None
        self._running: asyncio.Task[None] | None = None
        self._woken = self._ended = False

    def wake(self) -> None:
        self._woken = True
        if self._ended:
            return
        if self._worker is not None:
            self._worker.wake()
            return
        self._woken = False
        self._worker = self._make()
        self._running = asyncio.create_task(self._worker.run())
        self._running.add_done_callback(self._over)

    async def end(self) -> None:
        """Let the rows in flight finish; what is left goes on with the next start of the system."""
        self._ended = True
        if self._worker is not None and self._running is not None:
            self._worker.stop()
            await asyncio.wait([self._running])

    def _over(self, running: asyncio.Task[None]) -> None:
        self._worker = self._running = None
        if not running.cancelled() and (error := running.exception()) is not None:
            log.error("batch jobs do not run until another one is handed in", exc_info=error)
        elif self._woken:
            self.wake()


async def serve_in_process(
    config: WorkflowConfig,
    read: Read,
    host: str,
    port: int,
    announce: Callable[[Address, dict[str, float]], None],
    worker: Callable[[SystemClient], Worker],
) -> int:
    """As `rayflow.app.serve.serve`, without other processes but the one that tells OpenTelemetry. `worker`: makes who
    runs the batch jobs."""
    state = Path(config.storage.state)
    with reserve(host, port) as holder, owned(state) as mine:
        address = Address(host, holder.getsockname()[1])
        write_run_file(state, RunFile(os.getpid(), str(mine.run_dir), config.name, address.url, in_process=True))
        system = InProcessSystem(config)
        async with exporting(config), system:
            client = await system.client("ingress")
            metrics = Metrics(config.name)
            web = WebServer()
            batch = OnCall(lambda: worker(client))

            def open_door() -> None:
                web.open(create_app(client, metrics=metrics, wake=batch.wake), client.config)

            async def go_over(config: WorkflowConfig) -> Reconfigured:
                changed = await ask_coordinator(system.fabric, config)
                client.config = config
                open_door()
                return changed

            open_door()
            sock = listen(host, address.port)
            if JobStore(state).waiting():
                batch.wake()
            async with reloadable(mine.run_dir, read, go_over, batch.wake):
                announce(address, system.status.timeline)
                await web.serve(sockets=[sock])
            await batch.end()
    return Exit.PARTIAL if web.cut or system.left else Exit.OK
