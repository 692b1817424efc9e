"""A router's view of all agent pools: reserve a replica, or wait for one."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager

from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable
from rayflow.runtime.pool import Grant, Pool
from rayflow.runtime.ports import Fabric
from rayflow.runtime.roster import pool_prefix

EMPTY_POOL_S = 5.0
"""How long a run waits for the first replica of an agent that has none right now."""


class Pools:
    """Follows the directory: replicas come and go, the pools know."""

    def __init__(self, config: WorkflowConfig, fabric: Fabric, clock: Clock, rng: random.Random) -> None:
        self._fabric = fabric
        self._clock = clock
        self._rng = rng
        queue = config.processing.max_queue
        self._pools = {agent.name: Pool(agent.replicas.max_in_flight, queue) for agent in config.agents}
        self._waiting: dict[str, asyncio.Future[Grant]] = {}
        self._tickets = itertools.count(1)

    def watch(self) -> None:
        self._fabric.directory.on_change(self._refresh)
        self._refresh()

    @asynccontextmanager
    async def reserve(self, agent: str, timeout_s: float, avoid: Collection[str] = ()) -> AsyncIterator[Grant]:
        """A place at the least busy replica of this agent for as long as the context lasts; at one of `avoid` only
        where no other has room.

        Raises `NotFound` for an unknown agent, `Overloaded` when too many wait, `Unavailable` when the agent has no
        replica, `DeadlineExceeded` when none became free in time.
        """
        pool = self._pools.get(agent)
        if pool is None:
            raise NotFound(f"there is no agent {agent!r}", kind="agent", id=agent)
        ticket = f"{agent}/{next(self._tickets)}"
        outcome = pool.acquire(ticket, self._clock.now(), self._rng, avoid)
        if outcome == "refused":
            raise Overloaded(
                f"{pool.waiting} runs already wait for {agent}: try again later", agent=agent, retry_after_s=1
            )
        grant = outcome if isinstance(outcome, Grant) else await self._wait(pool, agent, ticket, timeout_s)
        try:
            yield grant
        finally:
            self._serve(pool.release(grant.replica, self._clock.now(), self._rng))

    async def _wait(self, pool: Pool, agent: str, ticket: str, timeout_s: float) -> Grant:
        granted: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = granted
        until = self._clock.now() + timeout_s
        try:
            if pool.size == 0:
                await asyncio.wait({granted}, timeout=min(timeout_s, EMPTY_POOL_S))
                if not granted.done() and pool.size == 0:
                    raise Unavailable(f"agent {agent} has no replica running", agent=agent, retry_after_s=2)
            await asyncio.wait({granted}, timeout=until - self._clock.now())
            if not granted.done():
                raise DeadlineExceeded(f"no replica of {agent} became free within {timeout_s:.3g} s", agent=agent)
            return granted.result()
        except BaseException:
            if granted.done():
                self._serve(pool.release(granted.result().replica, self._clock.now(), self._rng))
            raise
        finally:
            del self._waiting[ticket]
            pool.abandon(ticket)

    def _serve(self, grants: Iterable[Grant]) -> None:
        for grant in grants:
            self._waiting[grant.ticket].set_result(grant)

    def _refresh(self) -> None:
        for agent, pool in self._pools.items():
            replicas = self._fabric.directory.addresses(pool_prefix(agent))
            self._serve(pool.members(replicas, self._clock.now(), self._rng))
