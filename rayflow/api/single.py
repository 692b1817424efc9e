"""`rayflow serve --in-process`: actors and HTTP on one event loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rayflow.api.http import create_app
from rayflow.api.web import WebServer, listen
from rayflow.app.serve import Address, reserve
from rayflow.app.state import RunFile, owned, write_run_file
from rayflow.app.system import InProcessSystem
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Exit


async def serve_in_process(
    config: WorkflowConfig, host: str, port: int, announce: Callable[[Address, dict[str, float]], None]
) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    state = Path(config.storage.state)
    with reserve(host, port) as holder, owned(state) as mine:
        address = Address(host, holder.getsockname()[1])
        write_run_file(state, RunFile(os.getpid(), str(mine.run_dir), config.name, address.url, in_process=True))
        system = InProcessSystem(config)
        async with system:
            client = await system.client("ingress")
            web = WebServer(create_app(client), config.processing.drain_s)
            sock = listen(host, address.port)
            announce(address, system.status.timeline)
            await web.serve(sockets=[sock])
    return Exit.PARTIAL if system.left else Exit.OK
