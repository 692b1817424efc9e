"""The child processes of a serve command: the host, which holds Ray, and the ingress processes, which share the port.

The host may die and be started anew while the ingress processes answer, and each of these while the others do. One
more runs the batch jobs that came in over HTTP, and is there only while there are some (docs/batch.md); and one tells
OpenTelemetry, where that is configured (docs/telemetry.md). They end in the order in which requests pass them: first
whoever takes them in, then whoever works on them, and at last who tells of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rayflow.app import telemetry
from rayflow.app.children import Keeper, OnDemand, spawn
from rayflow.app.jobs.records import JobStore
from rayflow.app.port import Address
from rayflow.app.state import Owned
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import BY_SLUG, Exit, WorkflowError
from rayflow.policies.restart import RestartPolicy

log = logging.getLogger(__name__)

HOST_MODULE = "rayflow.app.host"
INGRESS_MODULE = "rayflow.api.ingress"
BATCH_MODULE = "rayflow.batch.desk_process"
HOST_RESTARTS = RestartPolicy(intensity=3, period_s=60.0)
INGRESS_RESTARTS = RestartPolicy(intensity=20, period_s=60.0, max_delay_s=0.5)
"""It starts in half a second and holds nothing, so it is worth starting more often, and at once."""
EXIT_BUDGET_S = 20.0
"""On top of the drain budget: time for Ray to go down."""


class Family:
    """`config`: what a process that starts from now on starts with. `ready` is called once, when all have been ready,
    with the times of the host's start.

    `over` is set when it should end: `stop` was called, or a child cannot be kept running, which is the `failure`.
    """

    def __init__(
        self,
        config: WorkflowConfig,
        mine: Owned,
        address: Address,
        ray_address: str | None,
        ready: Callable[[dict[str, float]], None],
    ) -> None:
        self.config = config
        self.over = asyncio.Event()
        self.failure: BaseException | None = None
        self._mine = mine
        self._address = address
        self._ray_address = ray_address
        self._ready = ready
        self._timeline: dict[str, float] = {}
        self._hurry = asyncio.Event()
        self._host = Keeper("the host process", self._start_host, self._host_said, HOST_RESTARTS)
        self._batch = OnDemand("the batch process", self._start_batch, INGRESS_RESTARTS)
        self._telemetry = telemetry.child(config, spawn)
        self._ingress: list[Keeper] = []
        self._retiring: set[asyncio.Task[int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_for = {"host", *(f"ingress/{i}" for i in range(config.processing.ingress))}

    def start(self) -> None:
        self._keep(self._host)
        self._keep(self._batch)
        self._keep(self._telemetry)
        self._add_ingress()

    def stop(self) -> None:
        """Ask for the end; ask again, and nothing is waited for any more."""
        (self._hurry if self.over.is_set() else self.over).set()

    def wake_batch(self) -> None:
        """There is a batch job to run, or to end."""
        self._batch.wake()

    async def end(self) -> int:
        """Drain and end all processes. Returns 0, or 5 when work was cut. Raises the `failure`."""
        self.over.set()
        codes = await asyncio.gather(*map(self._end_ingress, self._ingress), *self._retiring)
        await self._batch.end(self.config.processing.drain_s + EXIT_BUDGET_S, self._hurry)
        codes.append(await self._host.end(self.config.processing.drain_s + EXIT_BUDGET_S, self._hurry))
        await self._telemetry.end(telemetry.END_S, self._hurry)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.failure is not None:
            raise self.failure
        return Exit.PARTIAL if any(codes) else Exit.OK

    async def configure(self, config: WorkflowConfig) -> tuple[list[str], list[str]]:
        """Go over to this configuration, with as many ingress processes as it wants. Returns those that were added, and
        those that were removed, when they have drained."""
        was, self.config = self.config.monitoring.otel, config
        if was != config.monitoring.otel:
            await self._telemetry.end(telemetry.END_S, self._hurry)
            self._telemetry = telemetry.child(config, spawn)
            self._keep(self._telemetry)
        before, wanted = len(self._ingress), config.processing.ingress
        self._add_ingress()
        for keeper in self._ingress[wanted:]:
            retiring = asyncio.create_task(self._end_ingress(keeper))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        del self._ingress[wanted:]
        await asyncio.gather(*self._retiring)
        return [f"ingress/{i}" for i in range(before, wanted)], [f"ingress/{i}" for i in range(wanted, before)]

    def _add_ingress(self) -> None:
        for i in range(len(self._ingress), self.config.processing.ingress):
            arguments = (str(self._mine.run_dir), str(i), self._address.host, str(self._address.port))
            start = partial(spawn, INGRESS_MODULE, *arguments)
            keeper = Keeper(f"ingress/{i}", start, self._ingress_said, INGRESS_RESTARTS)
            self._ingress.append(keeper)
            self._keep(keeper)

    async def _end_ingress(self, keeper: Keeper) -> int:
        processing = self.config.processing
        return await keeper.end(processing.ready_grace_s + processing.drain_s + EXIT_BUDGET_S, self._hurry)

    async def _start_host(self) -> asyncio.subprocess.Process:
        """The host shares the lock: when this process is killed, the folder is free only after the host has drained.
        Ray writes to the host's stderr as it likes, so that goes to a file."""
        errors = Path(self.config.storage.state) / "logs" / "host.err"
        errors.parent.mkdir(exist_ok=True)
        arguments = (str(self._mine.run_dir), *filter(None, [self._ray_address]))
        return await spawn(HOST_MODULE, *arguments, stdin=dump(self.config), stderr=errors, pass_fds=(self._mine.lock,))

    async def _start_batch(self) -> asyncio.subprocess.Process:
        return await spawn(BATCH_MODULE, str(self._mine.run_dir))

    def _ingress_said(self, line: dict[str, Any]) -> None:
        if "batch" in line:
            self._batch.wake()
        else:
            self._arrived(line["ready"])

    def _host_said(self, line: dict[str, Any]) -> None:
        if "error" in line:
            error = BY_SLUG.get(line["slug"], WorkflowError)(line["error"])
            if "host" in self._waiting_for:
                self._fail(error)  # it never came up: starting it again would only fail again
            else:
                log.error("%s", error.message)
            return
        self._timeline = line["ready"]
        if JobStore(Path(self.config.storage.state)).waiting():
            self._batch.wake()
        self._arrived("host")

    def _arrived(self, name: str) -> None:
        if name in self._waiting_for:
            self._waiting_for.remove(name)
            if not self._waiting_for:
                self._ready(self._timeline)

    def _keep(self, keeper: Keeper | OnDemand) -> None:
        task = asyncio.create_task(keeper.run())
        self._tasks.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.over.set()
