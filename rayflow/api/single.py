"""`rayflow serve --in-process`: actors and HTTP on one event loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rayflow.api.http import create_app
from rayflow.api.metrics import Metrics
from rayflow.api.web import WebServer, listen
from rayflow.app.port import Address, reserve
from rayflow.app.reload import Read, ask_coordinator, reloadable
from rayflow.app.state import RunFile, owned, write_run_file
from rayflow.app.system import InProcessSystem
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Exit
from rayflow.messages import Reconfigured


async def serve_in_process(
    config: WorkflowConfig,
    read: Read,
    host: str,
    port: int,
    announce: Callable[[Address, dict[str, float]], None],
) -> int:
    """As `rayflow.app.serve.serve`, without other processes."""
    state = Path(config.storage.state)
    with reserve(host, port) as holder, owned(state) as mine:
        address = Address(host, holder.getsockname()[1])
        write_run_file(state, RunFile(os.getpid(), str(mine.run_dir), config.name, address.url, in_process=True))
        system = InProcessSystem(config)
        async with system:
            client = await system.client("ingress")
            metrics = Metrics(config.name)
            web = WebServer()

            def open_door() -> None:
                web.open(create_app(client, metrics=metrics), client.config)

            async def go_over(config: WorkflowConfig) -> Reconfigured:
                changed = await ask_coordinator(system.fabric, config)
                client.config = config
                open_door()
                return changed

            open_door()
            sock = listen(host, address.port)
            async with reloadable(mine.run_dir, read, go_over):
                announce(address, system.status.timeline)
                await web.serve(sockets=[sock])
    return Exit.PARTIAL if web.cut or system.left else Exit.OK
