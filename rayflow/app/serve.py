"""The serve command's own process: a small parent that holds the port and looks after the host and the ingress
processes.

It imports no Ray, so it outlives a lost Ray: then the host is started anew while the ingress processes answer 503 with
`Retry-After`. The port is reserved by a socket that never listens; the ingress processes share it (SO_REUSEPORT).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from rayflow.app import telemetry
from rayflow.app.family import Family
from rayflow.app.port import Address, reserve
from rayflow.app.reload import Read, ask_coordinator_at, reloadable
from rayflow.app.state import RunFile, owned, write_run_file
from rayflow.config.schema import WorkflowConfig
from rayflow.messages import Reconfigured


async def serve(
    config: WorkflowConfig,
    read: Read,
    host: str,
    port: int,
    ray_address: str | None,
    announce: Callable[[Address, dict[str, float]], None],
) -> int:
    """Serve until SIGTERM or SIGINT; with a second one, nothing is waited for. Returns 0 when drained, 5 when work was
    cut. Raises what kept it from starting.

    `read`: the configuration anew, when the file has changed. `announce` is called once, when the first request can be
    answered, with the address and the times of the start.
    """
    telemetry.check(config)
    state = Path(config.storage.state)
    with reserve(host, port) as holder, owned(state) as mine:
        address = Address(host, holder.getsockname()[1])
        family = Family(config, mine, address, ray_address, partial(announce, address))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, family.stop)
        write_run_file(state, RunFile(os.getpid(), str(mine.run_dir), config.name, address.url))
        async with reloadable(mine.run_dir, read, partial(_go_over, mine.run_dir, family), family.wake_batch):
            family.start()
            await family.over.wait()
        return await family.end()


async def _go_over(run_dir: Path, family: Family, config: WorkflowConfig) -> Reconfigured:
    telemetry.check(config)
    changed = await ask_coordinator_at(run_dir, config)
    added, removed = await family.configure(config)
    return msgspec.structs.replace(changed, added=[*changed.added, *added], removed=[*changed.removed, *removed])
