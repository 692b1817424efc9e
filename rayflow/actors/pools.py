"""A router's view of all agent pools: reserve a replica, or wait for one."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rayflow.clock import Clock
from rayflow.config.schema import AgentConfig, WorkflowConfig
from rayflow.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable
from rayflow.messages import PoolDemand, Sample
from rayflow.policies.adaptive import AdaptiveLimit
from rayflow.policies.admission import Refusal
from rayflow.policies.balancing import Outcome, balancer
from rayflow.policies.ejection import Ejection, Ejector
from rayflow.runtime.line import Line, Waiter
from rayflow.runtime.pool import Choice, Grant, Pool
from rayflow.runtime.ports import Fabric
from rayflow.runtime.roster import pool_prefix

EMPTY_POOL_S = 5.0
"""How long a run waits for the first replica of an agent that has none right now, and should have one. For an agent
that is scaled to zero it waits as long as it can."""
MARGIN_S = 0.001
"""A timer may go off by so much before its time."""
RETRY_AFTER_S = 1.0
"""When to come back after having waited in vain."""
WHY = {
    "full": "no more may",
    "too-late": "it would not be answered before its deadline",
    "too-long": "it would wait longer than admission.max_wait_s",
}


@dataclass(slots=True)
class Reservation:
    """A place at a replica."""

    replica: str
    waited_s: float
    outcome: Outcome | None = None
    """How the call went; set by the caller. None: it was cancelled, and nothing is learnt from it."""
    ejected: Ejection | None = None
    """Whether the replica is left alone for a while now; known when the place was given back."""


class Pools:
    """Follows the directory: replicas come and go, the pools know. Raises `ConfigurationError` where a policy of one's
    own cannot be loaded."""

    def __init__(self, config: WorkflowConfig, fabric: Fabric, clock: Clock, rng: random.Random) -> None:
        self._fabric = fabric
        self._clock = clock
        self._rng = rng
        self._max_wait_s = config.admission.max_wait_s
        self._pools = {agent.name: pool_of(agent, config) for agent in config.agents}
        self._from_zero = {agent.name for agent in config.agents if agent.replicas.min == 0}
        self._waiting: dict[str, asyncio.Future[Grant]] = {}
        self._tickets = itertools.count(1)
        self._rejected: Counter[tuple[str, str]] = Counter()
        """Calls that got no place, by agent and reason."""

    def watch(self) -> None:
        self._fabric.directory.on_change(self._refresh)
        self._refresh()

    def demand(self) -> list[PoolDemand]:
        """Of every agent's pool, for those who decide how many replicas there are."""
        now = self._clock.now()
        return [pool.demand(now) for pool in self._pools.values()]

    def samples(self) -> Iterator[Sample]:
        """Figures of all pools."""
        for agent, pool in self._pools.items():
            yield Sample("rayflow_pool_replicas", [agent], pool.size)
            yield Sample("rayflow_pool_in_flight", [agent], pool.in_flight)
            yield Sample("rayflow_pool_waiting", [agent], pool.waiting)
        for (agent, reason), calls in self._rejected.items():
            yield Sample("rayflow_rejections", [agent, reason], calls)

    def choice(self, agent: str) -> Choice:
        """How a replica of this agent is chosen, and among whom, as things are."""
        return self._pools[agent].choice()

    def least_loaded(self, agents: Sequence[str]) -> str:
        """The one whose pool has the fewest calls, those that wait included, for each place that it has; a random one
        of several."""
        pressure = {agent: self._pools[agent].pressure for agent in agents}
        lowest = min(pressure.values())
        return self._rng.choice([agent for agent in agents if pressure[agent] == lowest])

    @asynccontextmanager
    async def reserve(
        self,
        agent: str,
        timeout_s: float,
        avoid: Collection[str] = (),
        *,
        key: str = "",
        level: float = 2.0,
        tenant: str = "",
        tokens: int = 1,
    ) -> AsyncIterator[Reservation]:
        """A place at a replica of this agent for as long as the context lasts; at one of `avoid` only where no other
        has room. `key`: the session. `level`, `tenant`, `tokens`: as in `runtime.line.Waiter`.

        Raises `NotFound` for an unknown agent, `Overloaded` when it may not wait or has waited for
        `admission.max_wait_s`, `Unavailable` when the agent has no replica, `DeadlineExceeded` when none became free in
        time.
        """
        pool = self._pools.get(agent)
        if pool is None:
            raise NotFound(f"there is no agent {agent!r}", kind="agent", id=agent)
        now = self._clock.now()
        waiter = Waiter(f"{agent}/{next(self._tickets)}", now, now + timeout_s, level, tenant, tokens, key)
        answer = pool.acquire(waiter, now, self._rng, avoid)
        if isinstance(answer, Refusal):
            self._rejected[agent, answer.reason] += 1
            raise refused(answer, agent, pool.waiting)
        grant = answer if isinstance(answer, Grant) else await self._wait(pool, agent, waiter)
        reservation = Reservation(grant.replica, grant.waited_s)
        try:
            yield reservation
        finally:
            self._release(pool, grant, reservation.outcome)
            reservation.ejected = pool.ejection

    async def _wait(self, pool: Pool, agent: str, waiter: Waiter) -> Grant:
        granted: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._waiting[waiter.ticket] = granted
        try:
            if pool.size == 0 and agent not in self._from_zero:
                await self._until(granted, min(waiter.deadline, waiter.since + EMPTY_POOL_S))
                if not granted.done() and pool.size == 0:
                    self._rejected[agent, "no-replica"] += 1
                    raise Unavailable(f"agent {agent} has no replica running", agent=agent, retry_after_s=2)
            await self._until(granted, min(waiter.deadline, waiter.since + self._max_wait_s))
            if not granted.done():
                now = self._clock.now()
                pool.expire(now)
                self._rejected[agent, "waited"] += 1
                raise time_up(waiter, agent, now)
            return granted.result()
        except BaseException:
            if granted.done():
                self._release(pool, granted.result(), None)
            raise
        finally:
            del self._waiting[waiter.ticket]
            pool.abandon(waiter.ticket)

    async def _until(self, granted: asyncio.Future[Grant], moment: float) -> None:
        await asyncio.wait({granted}, timeout=max(0.0, moment - self._clock.now()))

    def _release(self, pool: Pool, grant: Grant, outcome: Outcome | None) -> None:
        self._serve(pool.release(grant, self._clock.now(), self._rng, outcome))

    def _serve(self, grants: Iterable[Grant]) -> None:
        for grant in grants:
            self._waiting[grant.ticket].set_result(grant)

    def _refresh(self) -> None:
        now = self._clock.now()
        for agent, pool in self._pools.items():
            self._serve(pool.members(self._fabric.directory.addresses(pool_prefix(agent)), now, self._rng))


def pool_of(agent: AgentConfig, config: WorkflowConfig) -> Pool:
    """An agent's pool as the configuration wants it. Raises `ConfigurationError` where a policy of one's own cannot be
    loaded."""
    balancing, admission = agent.balancing or config.balancing, config.admission
    shares = {tenant.name: tenant.weight for tenant in config.tenants}
    return Pool(
        agent.replicas.max_in_flight,
        balancer(balancing),
        Line(admission, config.priority, config.processing.max_queue, shares),
        Ejector(balancing.ejection) if balancing.ejection.enabled else None,
        AdaptiveLimit(admission) if admission.adaptive else None,
        balancing.weights,
        name=agent.name,
        strategy=balancing.strategy,
    )


def refused(refusal: Refusal, agent: str, waiting: int) -> Overloaded:
    """Why a call may not even wait."""
    why = WHY.get(refusal.reason, refusal.reason)
    return Overloaded(f"{agent} is busy, {waiting} runs wait: {why}", agent=agent, retry_after_s=refusal.retry_after_s)


def time_up(waiter: Waiter, agent: str, now: float) -> DeadlineExceeded | Overloaded:
    """Why a call waits no longer."""
    message = f"no replica of {agent} became free within {now - waiter.since:.3g} s"
    if now >= waiter.deadline - MARGIN_S:
        return DeadlineExceeded(message, agent=agent)
    return Overloaded(message, agent=agent, retry_after_s=RETRY_AFTER_S)
