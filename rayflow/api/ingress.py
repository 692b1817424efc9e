"""The ingress process: HTTP on a shared port, a member of the fabric, not of Ray.

It listens at once and answers 503 with `Retry-After` until it has joined the system. The coordinator may go away and
another may come: runs need none, so requests go on meanwhile. A new configuration is a new application behind the same
door; requests that are inside stay with the old one.

    python -m rayflow.api.ingress PARENT_PID RUN_DIR INDEX HOST PORT
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rayflow import collector
from rayflow.api.http import create_app
from rayflow.api.metrics import Metrics
from rayflow.api.web import WebServer, listen
from rayflow.app.children import end_with_parent, take_stdout
from rayflow.app.client import SystemClient
from rayflow.app.logs import to_file
from rayflow.app.system import attach, started
from rayflow.config.transfer import restore
from rayflow.errors import Exit, Unavailable

REJOIN_S = 0.2
JOIN_S = 2.0


class Ingress:
    """`say` tells the parent process when this one is ready, and that a batch job waits."""

    def __init__(self, run_dir: Path, index: int, say: Callable[[dict[str, Any]], None]) -> None:
        self._run_dir = run_dir
        self._say = say
        self._address = f"ingress/{index}"
        self._web = WebServer()
        self._metrics: Metrics | None = None
        self._opened = asyncio.Event()

    async def run(self, listen: Callable[[], socket.socket]) -> int:
        """Serve until SIGTERM. Returns 0 when drained, 5 when requests were cut.

        In a system that is up, the others serve the port until this process has joined and can do so, too.
        """
        joining = asyncio.create_task(self._stay_attached())
        if started(self._run_dir):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), JOIN_S)
        serving = asyncio.create_task(self._web.serve(sockets=[listen()]))
        await asyncio.wait({serving, joining}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            self._web.stop()
        await serving
        joining.cancel()
        with suppress(asyncio.CancelledError):
            await joining
        return Exit.PARTIAL if self._web.cut else Exit.OK

    async def _stay_attached(self) -> None:
        while True:
            try:
                member, client = await attach(self._run_dir, self._address, "ingress", patience_s=JOIN_S)
            except Unavailable:
                await asyncio.sleep(REJOIN_S)
                continue
            member.on_configure = lambda config, client=client: self._reconfigure(client, config)
            self._open(client)
            self._say({"ready": self._address})
            try:
                await member.lost.wait()
            except asyncio.CancelledError:
                await member.leave()
                raise
            finally:
                await member.close()
            self._web.shut()

    def _reconfigure(self, client: SystemClient, config: bytes) -> None:
        client.config = restore(config)
        self._open(client)

    def _wake(self) -> None:
        self._say({"batch": True})

    def _open(self, client: SystemClient) -> None:
        config = client.config
        to_file(config, self._address)
        self._metrics = self._metrics or Metrics(config.name)
        self._web.open(create_app(client, metrics=self._metrics, wake=self._wake), config)
        if not self._opened.is_set():
            collector.settle()
            self._opened.set()


def main() -> None:
    import uvloop

    parent, run_dir, index, host, port = sys.argv[1:]
    end_with_parent(int(parent))
    sys.exit(uvloop.run(Ingress(Path(run_dir), int(index), take_stdout()).run(partial(listen, host, int(port)))))


if __name__ == "__main__":
    main()
