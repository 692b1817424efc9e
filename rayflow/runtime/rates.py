"""Requests counted by rate: one timestamp for each workflow, tenant and user that had a request of late.

A timestamp that has passed says nothing and is dropped. Should there be more keys than memory is set aside for (user
names are free to choose), those that had no request for longest are forgotten, which gives them a fresh burst.
"""

from __future__ import annotations

from collections import OrderedDict

from rayflow.config.schema import Limit
from rayflow.errors import RateLimited
from rayflow.policies.gcra import Rate
from rayflow.runtime.limits import Counted, Limits

MAX_KEYS = 100_000
MAX_RUNS = 10_000
"""The last runs that were counted: one that comes again is not counted again."""


class Rates:
    """`keepers`: how many keep count side by side, each for its part of the requests."""

    def __init__(self, limits: Limits, keepers: int = 1, max_keys: int = MAX_KEYS) -> None:
        self._limits = limits
        self._keepers = keepers
        self._max_keys = max_keys
        self._timestamps: OrderedDict[str, float] = OrderedDict()
        self._runs: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._timestamps)

    def check(self, run_id: str, tenant: str, user_id: str, now: float) -> None:
        """Raises `RateLimited` where one of the limits is reached; takes nothing."""
        if run_id in self._runs:
            return
        for counted in self._limits.rates(tenant, user_id):
            wait_s = self._rate(counted.limit).wait_s(self._timestamps.get(counted.name, now), now)
            if wait_s > 0:
                raise _reached(counted, wait_s)

    def take(self, run_id: str, tenant: str, user_id: str, now: float) -> None:
        """Count a run that `check` let through."""
        if run_id in self._runs:
            return
        self._runs[run_id] = None
        if len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)
        for counted in self._limits.rates(tenant, user_id):
            timestamp = self._timestamps.pop(counted.name, now)
            self._timestamps[counted.name] = self._rate(counted.limit).taken(timestamp, now)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """A few of the oldest that have passed, so that the cost is spread; and what is too many."""
        for name in list(_first(self._timestamps, 4)):
            if self._timestamps[name] <= now or len(self._timestamps) > self._max_keys:
                del self._timestamps[name]

    def _rate(self, limit: Limit) -> Rate:
        assert limit.requests is not None, "Limits.rates gives those that have one"
        rate = Rate(limit.requests, limit.window_s, limit.burst or limit.requests)
        return rate.divided(self._keepers) if self._keepers > 1 else rate


def _first(names: OrderedDict[str, float], count: int) -> list[str]:
    return [name for name, _ in zip(names, range(count), strict=False)]


def _reached(counted: Counted, wait_s: float) -> RateLimited:
    return RateLimited(
        f"{counted.whose} may have {counted.limit.requests} requests in {counted.limit.window_s:g} s: try again in"
        f" {wait_s:.3g} s",
        limit=counted.name,
        retry_after_s=round(wait_s, 3),
    )
