"""The ingress process: HTTP on a shared port, a member of the fabric, not of Ray.

It listens at once and answers 503 with `Retry-After` until it has joined the system; when the coordinator goes away
it joins the next one, while runs that need no coordinator go on.

    python -m rayflow.api.ingress PARENT_PID RUN_DIR INDEX HOST PORT
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from rayflow.api.http import create_app
from rayflow.api.problems import answer
from rayflow.api.web import WebServer, listen
from rayflow.app.children import end_with_parent, take_stdout
from rayflow.app.logs import to_file
from rayflow.app.system import Attached, attach
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Unavailable
from rayflow.ids import new_run_id

REJOIN_S = 0.2
JOIN_S = 2.0


class Door:
    """The application of this process: closed until there is a system behind it."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await _closed(scope["path"], send)


async def _closed(path: str, send: Send) -> None:
    if path == "/healthz":
        status, headers, body = 200, [(b"content-type", b"application/json")], b'{"status":"ok"}'
    else:
        starting = Unavailable("the workflow is starting: try again shortly", retry_after_s=1)
        status, headers, body = answer(starting, path, new_run_id())
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Ingress:
    """`say` tells the parent process when this one is ready."""

    def __init__(self, run_dir: Path, index: int, say: Callable[[dict[str, Any]], None]) -> None:
        self._run_dir = run_dir
        self._say = say
        self._address = f"ingress/{index}"
        self._door = Door()

    async def run(self, sock: socket.socket) -> None:
        """Serve until SIGTERM."""
        web = WebServer(self._door, 30.0)
        serving = asyncio.create_task(web.serve(sockets=[sock]))
        joining = asyncio.create_task(self._stay_joined(web))
        await asyncio.wait({serving, joining}, return_when=asyncio.FIRST_COMPLETED)
        web.should_exit = True
        await serving
        joining.cancel()
        with suppress(asyncio.CancelledError):
            await joining

    async def _stay_joined(self, web: WebServer) -> None:
        while True:
            try:
                member, client = await attach(self._run_dir, self._address, "ingress", patience_s=JOIN_S)
            except Unavailable:
                await asyncio.sleep(REJOIN_S)
                continue
            self._configure(client.config, web)
            lost = asyncio.Event()
            member.fabric.on_lost(lambda endpoint, lost=lost: lost.set() if "coordinator" in endpoint else None)  # type: ignore[misc]
            self._door.app = create_app(client)
            self._say({"ready": self._address})
            await self._until_lost(member, lost)

    def _configure(self, config: WorkflowConfig, web: WebServer) -> None:
        to_file(Path(config.storage.state), self._address, config.monitoring.log_level)
        web.drain_s = config.processing.drain_s

    async def _until_lost(self, member: Attached, lost: asyncio.Event) -> None:
        try:
            await lost.wait()
        except asyncio.CancelledError:
            await member.leave()
            raise
        finally:
            await member.close()
        self._door.app = None


def main() -> None:
    import uvloop

    parent, run_dir, index, host, port = sys.argv[1:]
    end_with_parent(int(parent))
    uvloop.run(Ingress(Path(run_dir), int(index), take_stdout()).run(listen(host, int(port))))


if __name__ == "__main__":
    main()
