"""One simulated router: its view of the pool, made of the runtime's own objects as `actors.pools` makes it."""

from __future__ import annotations

import random
from collections import deque

from rayflow.policies.adaptive import AdaptiveLimit
from rayflow.policies.balancing import balancer
from rayflow.policies.breaker import Breaker
from rayflow.policies.ejection import Ejector
from rayflow.runtime.line import Line
from rayflow.runtime.pool import Pool
from rayflow.simulation.faults import breaks
from rayflow.simulation.plan import Plan
from rayflow.simulation.request import Request

NAME = "simulated"
"""Of the agent whose pool this is."""


class Router:
    """One router's view of the pool."""

    def __init__(self, plan: Plan, seed: int, number: int) -> None:
        weights = {tenant.name: tenant.weight for tenant in plan.tenants}
        balancing = plan.balancing
        self.rng = random.Random(f"{seed}/router/{number}")
        self.line = Line(plan.admission, plan.priority, plan.max_queue, weights)
        self.pool = Pool(
            plan.replicas.max_in_flight,
            balancer(balancing),
            self.line,
            Ejector(balancing.ejection) if balancing.ejection.enabled else None,
            AdaptiveLimit(plan.admission) if plan.admission.adaptive else None,
            balancing.weights,
            NAME,
        )
        self.breaker = Breaker(plan.breaker) if plan.breaker.enabled and breaks(plan.scenario.faults) else None
        self.alarm = False
        """Whether a look at the waiting calls is planned."""


class Watch:
    """Requests of one kind, in the order of their deadlines. `planned`: whether a look at the first is."""

    __slots__ = ("calls", "planned")

    def __init__(self) -> None:
        self.calls: deque[Request] = deque()
        self.planned = False
