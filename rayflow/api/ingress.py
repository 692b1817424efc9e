"""The ingress process: HTTP on a shared port, a member of the fabric, not of Ray.

It listens at once and answers 503 with `Retry-After` until it has joined the system; when the coordinator goes away
it joins the next one, while runs that need no coordinator go on.

    python -m rayflow.api.ingress PARENT_PID RUN_DIR INDEX HOST PORT
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rayflow.api.http import create_app
from rayflow.app.children import die_with_parent
from rayflow.app.logs import to_file
from rayflow.app.system import Attached, attach
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Unavailable

BACKLOG = 2048
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
            await _closed(scope["path"])(scope, receive, send)


def _closed(path: str) -> Response:
    if path == "/healthz":
        return JSONResponse({"status": "ok"})
    message = "the workflow is starting: try again shortly"
    if path.startswith("/v1/"):
        body: dict[str, object] = {
            "error": {"message": message, "type": "server_error", "param": None, "code": Unavailable.slug}
        }
        media_type = "application/json"
    else:
        body = {
            "type": f"urn:rayflow:problem:{Unavailable.slug}",
            "title": Unavailable.title,
            "status": 503,
            "detail": message,
            "error_code": Unavailable.error_code,
        }
        media_type = "application/problem+json"
    return JSONResponse(body, 503, {"retry-after": "1"}, media_type)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on a port that several processes may share."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def server(app: ASGIApp, drain_s: float) -> uvicorn.Server:
    """The HTTP server, the same for ingress processes and for `serve --in-process`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=round(drain_s),
        )
    )


class Ingress:
    def __init__(self, run_dir: Path, index: int) -> None:
        self._run_dir = run_dir
        self._address = f"ingress/{index}"
        self._door = Door()

    async def run(self, sock: socket.socket) -> None:
        """Serve until SIGTERM."""
        web = server(self._door, 30.0)
        serving = asyncio.create_task(web.serve(sockets=[sock]))
        joining = asyncio.create_task(self._stay_joined(web))
        await asyncio.wait({serving, joining}, return_when=asyncio.FIRST_COMPLETED)
        web.should_exit = True
        await serving
        joining.cancel()
        with suppress(asyncio.CancelledError):
            await joining

    async def _stay_joined(self, web: uvicorn.Server) -> None:
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
            _say_ready(self._address)
            await self._until_lost(member, lost)

    def _configure(self, config: WorkflowConfig, web: uvicorn.Server) -> None:
        to_file(Path(config.storage.state), self._address, config.monitoring.log_level)
        web.config.timeout_graceful_shutdown = round(config.processing.drain_s)

    async def _until_lost(self, member: Attached, lost: asyncio.Event) -> None:
        try:
            await lost.wait()
        except asyncio.CancelledError:
            await member.leave()
            raise
        finally:
            await member.close()
        self._door.app = None


def _say_ready(address: str) -> None:
    sys.stdout.write(json.dumps({"ready": address, "at": SYSTEM_CLOCK.wall_us()}) + "\n")
    sys.stdout.flush()


def main() -> None:
    import uvloop

    parent, run_dir, index, host, port = sys.argv[1:]
    die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(Ingress(Path(run_dir), int(index)).run(listen(host, int(port))))


if __name__ == "__main__":
    main()
