"""The HTTP server under the application, the same for ingress processes and for `serve --in-process`.

It ends without failing a request. First `/readyz` answers 503 while everything goes on, so that load balancers look
away. Then it lets in whoever has connected already, closes the port and each connection as it falls idle, and answers
what is under way with `Connection: close`. Only what outlasts the drain budget is cut, and even that is told so.
"""

from __future__ import annotations

import asyncio
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rayflow.api.connection import SCOPE_KEY, ServerConnection
from rayflow.api.door import Door
from rayflow.api.websocket.line import MAX_FRAME_BYTES, PING_S, Line
from rayflow.config.schema import WorkflowConfig

BACKLOG = 2048
TICK_S = 0.02
NEWCOMER_S = 0.25
"""A new connection's first request may take so long to arrive."""
LAST_WORDS_S = 1.0
"""For telling clients that their request was cut."""


class Protocol(HttpToolsProtocol):
    """HTTP of one connection."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            cycle.scope[SCOPE_KEY] = ServerConnection(cycle)  # type: ignore[typeddict-unknown-key]

    def _should_upgrade(self) -> bool:
        """Only as RFC 6455 section 4.1 has it; anything else is a request that may also ask for an upgrade."""
        return self.scope["method"] == "GET" and self.scope["http_version"] == "1.1" and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # it came behind a request whose answer is not written yet
        else:
            super().handle_websocket_upgrade()


class WebServer(uvicorn.Server):
    """uvicorn with an end of its own. `cut`: requests that were not finished when the drain budget was spent.

    The first SIGTERM or SIGINT, or `stop`, drains; the second one cuts at once.
    """

    def __init__(self, app: ASGIApp | None = None, ready_grace_s: float = 0.0, drain_s: float = 30.0) -> None:
        self.door = Door(app)
        config = uvicorn.Config(
            self.door,
            http=Protocol,
            ws=Line,
            ws_max_size=MAX_FRAME_BYTES,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
        )
        super().__init__(config)
        self.ready_grace_s = ready_grace_s
        self.drain_s = drain_s
        self.cut = 0
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._closed_at = 0.0

    def open(self, app: ASGIApp, config: WorkflowConfig) -> None:
        """Serve this application, under its configuration, in place of another."""
        self.ready_grace_s, self.drain_s = config.processing.ready_grace_s, config.processing.drain_s
        self.config.ws_per_message_deflate = config.security.websocket_compression
        self._replace(app)

    def shut(self) -> None:
        """Serve none, until there is one."""
        self._replace(None)

    def _replace(self, app: ASGIApp | None) -> None:
        """Requests that are inside stay with the old one; WebSockets, which would never leave it, are closed when
        their runs have ended."""
        self.door.app = app
        for connection in list(self.server_state.connections):
            if isinstance(connection, Line):
                connection.shutdown()

    def stop(self) -> None:
        """Ask it to end; ask again, and it does so at once."""
        (self._hurried if self._asked.is_set() else self._asked).set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self.stop)
        yield
        for number in signals:
            loop.remove_signal_handler(number)

    async def main_loop(self) -> None:
        await self._asked.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.door.leaving = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), self.ready_grace_s)
        await self._close_port(sockets or [])
        quiet = asyncio.create_task(self._until_quiet())
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait({quiet, hurried}, timeout=self.drain_s, return_when=asyncio.FIRST_COMPLETED)
        if not quiet.done():
            await self._cut(quiet)
        for task in (quiet, hurried):
            task.cancel()
        await asyncio.gather(quiet, hurried, return_exceptions=True)

    async def _close_port(self, sockets: list[socket.socket]) -> None:
        """Connections that the kernel has made already would be reset with the listening socket, so they are taken
        first; the loop takes one at a time."""
        for listening in sockets:
            for _ in range(BACKLOG):
                if not _readable(listening):
                    break
                await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for listening in sockets:
            listening.close()
        self._closed_at = asyncio.get_running_loop().time()
        self.server_state.default_headers = [(b"connection", b"close")]
        self.close_idle()

    def close_idle(self) -> None:
        """Close every connection that has nothing to do and no request on the way."""
        for connection in list(self.server_state.connections):
            if not (isinstance(connection, HttpToolsProtocol) and self._awaits(connection)):
                connection.shutdown()  # one that is busy closes after its answer

    async def _until_quiet(self) -> None:
        """Close connections as they fall idle, until none is left."""
        state = self.server_state
        while True:
            await asyncio.sleep(TICK_S)
            if not state.connections and not state.tasks:
                return
            self.close_idle()

    def _awaits(self, connection: HttpToolsProtocol) -> bool:
        """Whether an idle connection has a request on the way: it is half read, or waits to be read, or, where the
        connection is new, may arrive any moment."""
        last, begun = connection.cycle, connection.scope
        if not last:
            return bool(begun) or self._recent() or _has_data(connection)
        return last.response_complete and (begun is not last.scope or _has_data(connection))

    def _recent(self) -> bool:
        return asyncio.get_running_loop().time() < self._closed_at + NEWCOMER_S

    async def _cut(self, quiet: asyncio.Task[None]) -> None:
        state = self.server_state
        self.cut = len(state.tasks)
        for request in state.tasks:
            request.cancel()
        await asyncio.wait({quiet}, timeout=LAST_WORDS_S if state.tasks else 0)
        for connection in list(state.connections):
            connection.transport.abort()


def _has_data(connection: HttpToolsProtocol) -> bool:
    transport = connection.transport
    return not transport.is_closing() and _readable(transport.get_extra_info("socket"))


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on a port that several processes may share."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock
