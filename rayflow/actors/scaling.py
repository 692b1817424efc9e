"""Scaling at work: looks at the load of every pool that can be scaled, and says what its scaler decides.

It runs beside the supervisor's event path and touches it only when a target changes. Where nothing can be scaled it
does not run at all; where something can, it costs one small question a router and interval.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rayflow.clock import Clock
from rayflow.config.schema import Replicas, ScalingConfig, WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.messages import Demand, GetDemand
from rayflow.policies.scaling import Scaler, Target, can_scale
from rayflow.runtime.demand import Demands
from rayflow.runtime.ports import Fabric
from rayflow.runtime.supervision.fleet import Size

log = logging.getLogger(__name__)

BY_HAND = "by hand"
ANSWER_S = 1.0
"""A router that takes longer has other worries; what it said last is used for a while."""

EARLY = 0.9
"""A timer may go off a little before its time."""


class Scaled(NamedTuple):
    """One pool, its settings and its scaler."""

    replicas: Replicas
    config: ScalingConfig
    scaler: Scaler


class Scaling:
    """`size`: how large a pool is now, None where there is none. `decided` takes (agent, target, strategy) whenever
    there is a decision."""

    def __init__(
        self,
        fabric: Fabric,
        clock: Clock,
        size: Callable[[str], Size | None],
        decided: Callable[[str, Target, str], None],
    ) -> None:
        self._fabric = fabric
        self._clock = clock
        self._size = size
        self._decided = decided
        self._pools: dict[str, Scaled] = {}
        self._demands = Demands()
        self._loop: asyncio.Task[None] | None = None

    def configure(self, config: WorkflowConfig) -> None:
        """From now on scale by this. Pools whose settings are the same keep what they have learnt. Raises
        `ConfigurationError`, and changes nothing, where a policy of one's own cannot be loaded."""
        self._pools = {
            agent.name: self._same(agent.name, agent.replicas, agent.scaling or config.scaling)
            for agent in config.agents
        }

    def check(self, config: WorkflowConfig) -> None:
        """Raises `ConfigurationError` where `configure` would."""
        for agent in config.agents:
            Scaler(agent.replicas, agent.scaling or config.scaling)

    def run(self) -> None:
        """Begin, where there is something to do, or end."""
        needed = any(can_scale(pool.replicas, pool.config) for pool in self._pools.values())
        if needed and self._loop is None:
            self._loop = asyncio.get_running_loop().create_task(self._watch())
            self._loop.add_done_callback(_ended)
        elif not needed:
            self.close()

    def close(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            self._loop = None

    def by_hand(self, agent: str, replicas: int) -> None:
        """Somebody wants so many, now."""
        self._decided(agent, self._pools[agent].scaler.by_hand(replicas, self._clock.now()), BY_HAND)

    def strategies(self) -> dict[str, str]:
        """By agent."""
        return {agent: pool.config.strategy for agent, pool in self._pools.items()}

    def _same(self, agent: str, replicas: Replicas, config: ScalingConfig) -> Scaled:
        before = self._pools.get(agent)
        if before is not None and (before.replicas, before.config) == (replicas, config):
            return before
        return Scaled(replicas, config, Scaler(replicas, config))

    async def _watch(self) -> None:
        due = dict.fromkeys(self._pools, 0.0)
        while True:
            active = {agent: pool for agent, pool in self._pools.items() if can_scale(pool.replicas, pool.config)}
            await asyncio.sleep(min(pool.config.interval_s for pool in active.values()))
            await self._ask(self._fabric.directory.addresses("router/"))
            now = self._clock.now()
            for agent, pool in active.items():
                if now >= due.get(agent, 0.0):
                    due[agent] = now + EARLY * pool.config.interval_s
                    self._look(agent, pool, now)

    async def _ask(self, routers: Iterable[str]) -> None:
        routers = list(routers)
        self._demands.keep(routers)
        await asyncio.gather(*(self._ask_one(router) for router in routers))

    async def _ask_one(self, router: str) -> None:
        try:
            demand: Demand = await self._fabric.ask(router, GetDemand(), ANSWER_S)
        except WorkflowError as error:
            log.debug("%s did not say its demand: %s", router, error.message)
        else:
            self._demands.take(router, demand.pools, self._clock.now())

    def _look(self, agent: str, pool: Scaled, now: float) -> None:
        size = self._size(agent)
        if size is None:
            return
        load = self._demands.load(agent, size.ready, size.starting, now)
        if load is None:
            return
        target = pool.scaler.decide(load, now, self._clock.wall_us() / 1e6)
        if target.replicas != size.target:
            self._decided(agent, target, pool.config.strategy)


def _ended(loop: asyncio.Task[None]) -> None:
    if not loop.cancelled() and (error := loop.exception()) is not None:
        log.error("pools stay as they are: scaling failed", exc_info=error)
