"""The Ray cluster under a system: a local one of its own, or a running one that it joins.

A local cluster listens on loopback as far as Ray lets it, runs without the dashboard, keeps its files in the run
folder, and dies with this process, even when that is killed: Ray ties its daemons to the driver that started them.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from rayflow.cluster.ray_actors import Boot
from rayflow.cluster.ray_backend import create
from rayflow.cluster.ray_coordinator import Coordinator
from rayflow.errors import Unavailable
from rayflow.runtime.roster import COORDINATOR

REACH_S = 5.0
OBJECT_STORE_BYTES = 128 << 20
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Ray replaces 127.0.0.1 by the machine's outer address; the rest of the loopback range it leaves alone."""


class RayCluster:
    """`expected_actors`: how many processes a local Ray should start at once."""

    def __init__(self, run_dir: Path, address: str | None, expected_actors: int) -> None:
        self._run_dir = run_dir
        self._address = address
        self._expected = expected_actors
        self._namespace = f"rayflow-{secrets.token_hex(4)}"
        self._coordinator: Any = None

    def start(self, builders: str) -> None:
        """Start or join Ray, and start the coordinator. Blocks for some seconds. Raises `Unavailable`."""
        common: dict[str, Any] = {
            "namespace": self._namespace,
            "log_to_driver": False,
            "logging_level": "ERROR",
            "configure_logging": False,
        }
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            if self._address is None:
                ray.init(
                    address="local",
                    num_cpus=max(self._expected, os.cpu_count() or 1),
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _node_ip_address=LOOPBACK,
                    _temp_dir=str(self._run_dir / "r"),
                    **common,
                )
            else:
                _reach(self._address)
                ray.init(address=self._address, **common)
        except (OSError, RuntimeError, ValueError) as error:
            where = f"the Ray cluster at {self._address}" if self._address else "a local Ray"
            hint = "; is it running, and is RAY_AUTH_MODE=token set where it asks for a token?" if self._address else ""
            raise Unavailable(
                f"cannot start or join {where}: {str(error).strip() or type(error).__name__}{hint}"
            ) from error
        self._coordinator = create(Coordinator, Boot(COORDINATOR, "coordinator", 0, str(self._run_dir), builders))

    async def coordinator_lost(self) -> str:
        """Wait until the coordinator dies; returns why."""
        try:
            await self._coordinator.run.remote()
        except ray.exceptions.RayTaskError as error:
            return str(error.cause or error).strip().splitlines()[-1]
        except ray.exceptions.RayError as error:
            return f"{type(error).__name__}: the coordinator died"
        return "the coordinator ended"

    def stop(self) -> None:
        """End the coordinator and leave Ray; a local Ray ends with it."""
        if self._coordinator is not None:
            with suppress(ray.exceptions.RayError):
                ray.kill(self._coordinator)
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises OSError at once where nothing listens: Ray itself would try for minutes, deaf to cancellation."""
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.rpartition("//")[2], int(port)), REACH_S).close()
