"""The Ray cluster under a system: a local one of its own, or a running one that it joins.

A local cluster listens on loopback as far as Ray lets it, runs without the dashboard, keeps its files in the run
folder, and dies with this process, even when that is killed: Ray ties its daemons to the driver that started them. On
a cluster that it joined, the system outlives this process, and the next one finds it.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import ray

from rayflow.cluster.ray_actors import Boot
from rayflow.cluster.ray_backend import create
from rayflow.cluster.ray_coordinator import Coordinator
from rayflow.cluster.ray_lean import without_helpers
from rayflow.cluster.site import Site
from rayflow.errors import Unavailable
from rayflow.runtime.roster import COORDINATOR

REACH_S = 5.0
OBJECT_STORE_BYTES = 128 << 20
HEALTH_CHECK = {"initial_delay_ms": 0, "period_ms": 500, "timeout_ms": 1000, "failure_threshold": 3}
"""Ray's own settings notice a killed node after 17 s and a frozen one after 64 s; with these it takes 3 and 6 s."""
WORKER_NICENESS = "0"
"""Ray gives its workers the lowest priority but four (nice 15), meant for batch work: beside two busy programs on two
cores an actor then gets one thirtieth of a core, and starting takes a minute."""
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Ray replaces 127.0.0.1 by the machine's outer address; the rest of the loopback range it leaves alone."""


class RayCluster:
    """`expected_actors`: how many processes a local Ray should start at once. `site` knows its node after `start`."""

    def __init__(self, site: Site, address: str | None, expected_actors: int) -> None:
        self.site = site
        self._address = address
        self._expected = expected_actors
        self._coordinator: Any = None

    def start(self, builders: str) -> None:
        """Start or join Ray, and start the coordinator or find it. Blocks for some seconds. Raises `Unavailable`."""
        site = self.site
        common: dict[str, Any] = {
            "namespace": site.namespace,
            "log_to_driver": False,
            "logging_level": "ERROR",
            "configure_logging": False,
        }
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            if self._address is None:
                for name, value in HEALTH_CHECK.items():
                    os.environ.setdefault(f"RAY_health_check_{name}", str(value))
                os.environ.setdefault("RAY_worker_niceness", WORKER_NICENESS)
                with without_helpers():
                    ray.init(
                        address="local",
                        num_cpus=max(self._expected, os.cpu_count() or 1),
                        include_dashboard=False,
                        object_store_memory=OBJECT_STORE_BYTES,
                        _node_ip_address=LOOPBACK,
                        _temp_dir=str(site.run_dir / "r"),
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
        self.site = Site(
            site.run_dir,
            site.secret,
            ray.get_runtime_context().get_node_id(),
            "" if self._address is None else ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
        )
        self.site.announce()
        boot = Boot(
            address=COORDINATOR,
            role="coordinator",
            epoch=0,
            run_dir=str(site.run_dir),
            builders=builders,
            coordinator=self.site.coordinator,
            node=self.site.node,
            host=self.site.host,
        )
        self._coordinator = create(Coordinator, boot, max_restarts=-1, max_task_retries=-1)

    async def coordinator_lost(self) -> str:
        """Wait until the coordinator is gone for good (Ray starts one that died again); returns why."""
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
