"""The Ray backend: places, names, starts and watches actor processes.

Ray restarts nothing by itself (`max_restarts=0`): whether and when is the supervisor's decision. Actors take no CPU
resources, because one replica works on many calls at once and its limit is `max_in_flight`. They are detached, so that
they outlive a coordinator that dies: the next one finds them by name.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayflow.cluster.ray_actors import BY_ROLE, Boot, RayProcess
from rayflow.cluster.site import Site
from rayflow.errors import Unavailable
from rayflow.messages import Endpoint
from rayflow.policies.spreading import Node, spread

log = logging.getLogger(__name__)

PROBE_S = 0.5


@dataclass(frozen=True, slots=True)
class _Process:
    handle: Any
    node: str


class RayBackend:
    """`site`: where the coordinator is. `coordinator`: how processes find it."""

    def __init__(self, site: Site, coordinator: Endpoint, builders: str) -> None:
        self._site = site
        self._coordinator = coordinator
        self._builders = builders
        self._processes: dict[tuple[str, int], _Process] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._callback: Callable[[str, int, str], None] | None = None

    def on_exit(self, callback: Callable[[str, int, str], None]) -> None:
        self._callback = callback

    async def spawn(self, address: str, role: str, epoch: int) -> None:
        site = self._site
        try:
            alive = await self._alive()
            node = self._choose(role, address, alive)
            home = node.id == site.node
            boot = Boot(
                address=address,
                role=role,
                epoch=epoch,
                run_dir=str(site.run_dir),
                builders=self._builders,
                coordinator=self._coordinator,
                node=node.id,
                host=node.host,
                secret=b"" if home else site.secret,
            )
            handle = create(BY_ROLE[role], boot)
        except (ray.exceptions.RayError, ValueError) as error:
            raise Unavailable(f"Ray could not start {address}: {error}") from error
        self._keep(address, epoch, handle, node.id)

    async def adopt(self, address: str, epoch: int, node: str) -> bool:
        """Watch a process that an earlier coordinator started. False where Ray knows none."""
        try:
            handle = await asyncio.to_thread(ray.get_actor, actor_name(address, epoch), self._site.namespace)
        except ValueError:
            return False
        self._keep(address, epoch, handle, node)
        return True

    async def kill(self, address: str, epoch: int) -> None:
        if process := self._processes.get((address, epoch)):
            ray.kill(process.handle)

    def _keep(self, address: str, epoch: int, handle: Any, node: str) -> None:
        self._processes[address, epoch] = _Process(handle, node)
        watcher = asyncio.create_task(self._watch(address, epoch, handle))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, address: str, epoch: int, handle: Any) -> None:
        """`run` lasts as long as the actor: its end, good or bad, is Ray's notice."""
        try:
            reason = await handle.run.remote()
        except ray.exceptions.RayTaskError as error:
            reason = str(error.cause or error).strip().splitlines()[-1]
        except ray.exceptions.RayError as error:
            reason = f"{type(error).__name__}: process died"
        ray.kill(handle)
        self._processes.pop((address, epoch), None)
        if self._callback is not None:
            self._callback(address, epoch, reason)

    async def _alive(self) -> list[tuple[str, str]]:
        """(id, address) of the nodes that can run something."""
        if not self._site.host:
            return [(self._site.node, "")]
        return [
            (entry["NodeID"], entry["NodeManagerAddress"])
            for entry in await asyncio.to_thread(ray.nodes)
            if entry["Alive"] and await _listens(entry["NodeManagerAddress"], entry["NodeManagerPort"])
        ]

    def _choose(self, role: str, address: str, alive: Iterable[tuple[str, str]]) -> Node:
        """Counts and chooses in one step: spawns run side by side."""
        running = Counter(process.node for process in self._processes.values())
        pool = _pool(address)
        siblings = Counter(process.node for (each, _), process in self._processes.items() if _pool(each) == pool)
        nodes = [Node(node, host, running[node], siblings[node]) for node, host in alive]
        return spread(role, nodes, self._site.node)


def _pool(address: str) -> str:
    """`agent/billing` of `agent/billing/1`."""
    return address.rpartition("/")[0]


async def _listens(host: str, port: int) -> bool:
    """Whether a node's daemon is there: Ray itself takes seconds to notice that it is not."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), PROBE_S)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def actor_name(address: str, epoch: int) -> str:
    return f"rayflow/{address}#{epoch}" if epoch else f"rayflow/{address}"


def create(actor: type[RayProcess], boot: Boot, **options: Any) -> Any:
    """Start a Ray actor on the node named in `boot`, or find the one of this name. Returns its handle at once; the
    process boots meanwhile."""
    settings: dict[str, Any] = {
        "name": actor_name(boot.address, boot.epoch),
        "get_if_exists": True,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": 16,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=boot.node, soft=False),
        **options,
    }
    return ray.remote(actor).options(**settings).remote(msgspec.msgpack.encode(boot))
