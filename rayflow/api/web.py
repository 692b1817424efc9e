"""The HTTP server under the application, the same for ingress processes and for `serve --in-process`."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

BACKLOG = 2048


class WebServer(uvicorn.Server):
    """uvicorn, except for signals: the first SIGTERM or SIGINT drains, the second one ends at once, and neither is
    raised again afterwards, because a drained server has exit code 0."""

    def __init__(self, app: ASGIApp, drain_s: float) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
        )
        super().__init__(config)
        self.drain_s = drain_s

    @property
    def drain_s(self) -> float:
        return float(self.config.timeout_graceful_shutdown or 0)

    @drain_s.setter
    def drain_s(self, seconds: float) -> None:
        """uvicorn counts whole seconds."""
        self.config.timeout_graceful_shutdown = max(1, round(seconds))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._asked_to_end)
        yield
        for number in signals:
            loop.remove_signal_handler(number)

    def _asked_to_end(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on a port that several processes may share."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock
