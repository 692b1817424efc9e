"""The serve command's own process: a small parent that holds the port and looks after the host and the ingress
processes.

It imports no Ray, so it outlives a lost Ray: then the host is started anew while the ingress processes answer 503 with
`Retry-After`. The port is reserved by a socket that never listens; the ingress processes share it (SO_REUSEPORT).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayflow.app.children import Keeper, spawn
from rayflow.app.state import Owned, RunFile, owned, write_run_file
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import BY_SLUG, ConfigurationError, Exit, Unavailable, WorkflowError
from rayflow.policies.restart import RestartPolicy

log = logging.getLogger(__name__)

HOST_MODULE = "rayflow.app.host"
INGRESS_MODULE = "rayflow.api.ingress"
RESTARTS = RestartPolicy(intensity=3, period_s=60.0)
EXIT_BUDGET_S = 20.0
"""On top of the drain budget: time for Ray to go down."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def check_exposure(config: WorkflowConfig, host: str, insecure: bool) -> None:
    """Serving beyond this machine needs keys. Raises `ConfigurationError`."""
    if host in ("127.0.0.1", "::1", "localhost") or config.security.api_keys or insecure:
        return
    raise ConfigurationError(
        f"serving on {host} without API keys would let anybody on the network use it: set security.api_keys in the"
        " workflow file (write keys as ${NAME}), or pass --insecure if that is what you want",
        key="security.api_keys",
    )


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps the port ours. Raises `Unavailable` when somebody else has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            # Without SO_REUSEPORT: fails where anything listens, even another rayflow that would share the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
        holder = socket.socket(family)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another one with --port", port=port
        ) from error
    return holder


class Serve:
    """`announce` is called once, when the first request can be answered, with the address and the times of the
    start."""

    def __init__(
        self,
        config: WorkflowConfig,
        host: str,
        port: int,
        ray_address: str | None,
        announce: Callable[[Address, dict[str, float]], None],
    ) -> None:
        self._config = config
        self._host = host
        self._port = port
        self._ray_address = ray_address
        self._announce = announce
        self._stop = asyncio.Event()
        self._timeline: dict[str, float] = {}
        self._waiting_for = {"host", *(f"ingress/{i}" for i in range(config.processing.ingress))}
        self._failure: WorkflowError | None = None

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Returns 0 when drained, 5 when work was cut. Raises what kept it from
        starting."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        state = Path(self._config.storage.state)
        with reserve(self._host, self._port) as holder, owned(state) as mine:
            address = Address(self._host, holder.getsockname()[1])
            write_run_file(state, RunFile(os.getpid(), str(mine.run_dir), self._config.name, address.url))
            return await self._keep(mine, address)

    async def _keep(self, mine: Owned, address: Address) -> int:
        host = Keeper(
            "the host process", lambda: self._start_host(mine), lambda line: self._host_said(line, address), RESTARTS
        )
        ingress = [
            Keeper(
                f"ingress/{i}",
                lambda i=i: spawn(INGRESS_MODULE, str(mine.run_dir), str(i), address.host, str(address.port)),  # type: ignore[misc]
                lambda line: self._ingress_said(line, address),
                RESTARTS,
            )
            for i in range(self._config.processing.ingress)
        ]
        keepers = [asyncio.create_task(keeper.run()) for keeper in (host, *ingress)]
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stopped, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        drain_s = self._config.processing.drain_s
        codes = await asyncio.gather(*(keeper.end(drain_s + EXIT_BUDGET_S) for keeper in ingress))
        codes.append(await host.end(drain_s + EXIT_BUDGET_S))
        stopped.cancel()
        ends = await asyncio.gather(*keepers, return_exceptions=True)
        failure = self._failure or next((end for end in ends if isinstance(end, Exception)), None)
        if failure is not None:
            raise failure
        return Exit.PARTIAL if any(codes) else Exit.OK

    async def _start_host(self, mine: Owned) -> asyncio.subprocess.Process:
        """The host shares the lock: when this process is killed, the folder is free only after the host has drained.
        Ray writes to the host's stderr as it likes, so that goes to a file."""
        errors = Path(self._config.storage.state) / "logs" / "host.err"
        errors.parent.mkdir(exist_ok=True)
        arguments = (str(mine.run_dir), *filter(None, [self._ray_address]))
        return await spawn(HOST_MODULE, *arguments, stdin=dump(self._config), stderr=errors, pass_fds=(mine.lock,))

    def _host_said(self, line: dict[str, Any], address: Address) -> None:
        if "error" in line:
            error = BY_SLUG.get(line["slug"], WorkflowError)(line["error"])
            if "host" in self._waiting_for:
                # It never came up: starting it again would only fail again.
                self._failure = error
                self._stop.set()
            else:
                log.error("%s", error.message)
            return
        self._timeline = line["ready"]
        self._arrived("host", address)

    def _ingress_said(self, line: dict[str, Any], address: Address) -> None:
        self._arrived(line["ready"], address)

    def _arrived(self, name: str, address: Address) -> None:
        if name in self._waiting_for:
            self._waiting_for.remove(name)
            if not self._waiting_for:
                self._announce(address, self._timeline)
