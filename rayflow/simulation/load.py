"""The requests of a scenario, one after another, each with all that is random about it.

What a request is like depends on the seed and on its place in the load alone, never on what the policies did before: so
two scenarios that differ in a policy get the very same requests.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from zlib import crc32

from rayflow.policies.priority import level
from rayflow.simulation.arrivals import Arrival, replayed, times
from rayflow.simulation.distributions import sampler
from rayflow.simulation.plan import Plan
from rayflow.simulation.request import Request
from rayflow.simulation.scenario import Traffic


class Load:
    """Iterate over it for the requests in order of arrival. `recorded`: for the processes trace and log."""

    def __init__(self, plan: Plan, seed: int, recorded: Sequence[Arrival] = ()) -> None:
        self._plan = plan
        self._recorded = recorded
        self._clock = random.Random(f"{seed}/arrivals")
        self._rng = random.Random(f"{seed}/requests")
        self._kinds = list(range(len(plan.scenario.traffic)))
        self._shares = list(accumulate(kind.share for kind in plan.scenario.traffic))
        self._amounts = [(sampler(kind.input_tokens), sampler(kind.output_tokens)) for kind in plan.scenario.traffic]
        self._levels = [self._level(kind) for kind in plan.scenario.traffic]
        service = plan.scenario.service
        self._first = sampler(service.first_token_s)
        self._per_input = sampler(service.per_input_token_s)
        self._per_output = sampler(service.per_output_token_s)

    def __iter__(self) -> Iterator[Request]:
        scenario = self._plan.scenario
        if scenario.arrivals.process in ("trace", "log"):
            for n, arrival in enumerate(
                replayed(scenario.arrivals, self._recorded, self._plan.duration_s, self._clock)
            ):
                yield self._request(n, arrival.at_s, arrival)
        else:
            for n, at in enumerate(times(scenario.arrivals, self._plan.duration_s, self._clock)):
                yield self._request(n, at, None)

    def _request(self, n: int, at: float, arrival: Arrival | None) -> Request:
        rng = self._rng
        number = 0 if len(self._kinds) == 1 else rng.choices(self._kinds, cum_weights=self._shares)[0]
        kind = self._plan.scenario.traffic[number]
        ticket = str(n)
        tenant, key = kind.tenant, f"{number}/{rng.randrange(kind.sessions)}" if kind.sessions else ticket
        if arrival is None:
            amounts = self._amounts[number]
            prompt, answer = amounts[0](rng), amounts[1](rng)
        else:
            prompt, answer = float(arrival.input_tokens), float(arrival.output_tokens)
            tenant, key = arrival.tenant or tenant, arrival.session or key
        first_s = self._first(rng) + (prompt * self._per_input(rng) if prompt else 0.0)
        work_s = first_s + (answer * self._per_output(rng) if answer else 0.0)
        routers = self._plan.scenario.routers
        router = crc32(key.encode()) % routers if routers > 1 else 0  # a session belongs to one router
        tokens = max(1, round(prompt + answer))
        deadline = at + kind.deadline_s
        return Request(ticket, at, deadline, number, self._levels[number], tenant, key, tokens, first_s, work_s, router)

    def _level(self, kind: Traffic) -> float:
        tier = kind.user_tier or next((t.tier for t in self._plan.tenants if t.name == kind.tenant), "")
        return level(kind.service_class, tier, "normal", False, self._plan.priority)
