"""What all routers together see of each pool: their answers, added up.

Routers count since their own start, and they restart; a total that has become smaller begins anew. What is there at the
moment (in flight, waiting) counts for as long as a router has not been silent for `STALE_S`: one that was asked in a
bad moment has not lost its calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from rayflow.messages import PoolDemand
from rayflow.policies.scaling import Load

STALE_S = 5.0


@dataclass(slots=True)
class Total:
    arrived: int = 0
    finished: int = 0
    response_s: float = 0.0

    def grow(self, before: PoolDemand, now: PoolDemand) -> None:
        if now.arrived < before.arrived or now.finished < before.finished:
            before = PoolDemand(now.agent)
        self.arrived += now.arrived - before.arrived
        self.finished += now.finished - before.finished
        self.response_s += max(0.0, now.response_s - before.response_s)


class Demands:
    """Of all pools, as far as is known."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, dict[str, PoolDemand]]] = {}
        self._totals: defaultdict[str, Total] = defaultdict(Total)

    def take(self, router: str, pools: Iterable[PoolDemand], now: float) -> None:
        """A router has answered."""
        _, before = self._heard.get(router, (0.0, {}))
        after = {pool.agent: pool for pool in pools}
        for agent, pool in after.items():
            self._totals[agent].grow(before.get(agent, PoolDemand(agent)), pool)
        self._heard[router] = (now, after)

    def keep(self, routers: Collection[str]) -> None:
        """There are no others any more."""
        for router in self._heard.keys() - routers:
            del self._heard[router]

    def load(self, agent: str, ready: int, starting: int, now: float) -> Load | None:
        """Of one agent, whose pool has so many replicas; None while no router says anything."""
        fresh = [pools for at, pools in self._heard.values() if now - at <= STALE_S]
        seen = [pools[agent] for pools in fresh if agent in pools]
        if not seen:
            return None
        total = self._totals[agent]
        return Load(
            ready,
            starting,
            in_flight=sum(pool.in_flight for pool in seen),
            waiting=sum(pool.waiting for pool in seen),
            oldest_s=max(pool.oldest_s for pool in seen),
            arrived=total.arrived,
            finished=total.finished,
            response_s=total.response_s,
        )
