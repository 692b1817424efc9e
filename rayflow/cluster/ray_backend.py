"""The Ray backend: places, names, starts and watches actor processes.

Ray restarts nothing by itself (`max_restarts=0`): whether and when is the supervisor's decision. Actors take no CPU
resources, because one replica works on many calls at once and its limit is `max_in_flight`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayflow.cluster.ray_actors import BY_ROLE, Boot, RayProcess
from rayflow.errors import Unavailable

log = logging.getLogger(__name__)

NAMESPACE = "rayflow"


class RayBackend:
    """`run_dir`: folder of the sockets and the secret. Actors are placed on this process's node, where the folder
    is."""

    def __init__(self, run_dir: Path, builders: str) -> None:
        self._run_dir = run_dir
        self._builders = builders
        self._handles: dict[str, Any] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._callback: Callable[[str, int, str], None] | None = None

    def on_exit(self, callback: Callable[[str, int, str], None]) -> None:
        self._callback = callback

    async def spawn(self, address: str, role: str, epoch: int) -> None:
        try:
            boot = Boot(address, role, epoch, str(self._run_dir), self._builders)
            handle = create(BY_ROLE[role], boot)
        except (ray.exceptions.RayError, ValueError) as error:
            raise Unavailable(f"Ray could not start {address}: {error}") from error
        self._handles[address] = handle
        watcher = asyncio.create_task(self._watch(address, epoch, handle))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def kill(self, address: str) -> None:
        if handle := self._handles.get(address):
            ray.kill(handle)

    async def _watch(self, address: str, epoch: int, handle: Any) -> None:
        """`run` lasts as long as the actor: its end, good or bad, is Ray's notice."""
        try:
            reason = await handle.run.remote()
        except ray.exceptions.RayTaskError as error:
            reason = str(error.cause or error).strip().splitlines()[-1]
        except ray.exceptions.RayError as error:
            reason = f"{type(error).__name__}: process died"
        ray.kill(handle)
        if self._handles.get(address) is handle:
            del self._handles[address]
        if self._callback is not None:
            self._callback(address, epoch, reason)


def actor_name(address: str) -> str:
    return f"rayflow/{address}"


def create(actor: type[RayProcess], boot: Boot) -> Any:
    """Start a Ray actor on this node, owned by this process and ended with it. Returns its handle at once; the process
    boots meanwhile."""
    node = ray.get_runtime_context().get_node_id()
    options: dict[str, Any] = {
        "name": f"{actor_name(boot.address)}#{boot.epoch}" if boot.epoch else actor_name(boot.address),
        "num_cpus": 0,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": 16,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=False),
    }
    return ray.remote(actor).options(**options).remote(msgspec.msgpack.encode(boot))
