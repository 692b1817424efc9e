"""From a configuration to a strategy."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from rayflow.config.schema import BalancingConfig
from rayflow.policies import own
from rayflow.policies.balancing.base import Balancer, Outcome, Replica
from rayflow.policies.balancing.by_load import LeastBusy, PowerOfTwo, Random, RoundRobin
from rayflow.policies.balancing.fastest_response import FastestResponse
from rayflow.policies.balancing.prequal import Prequal
from rayflow.policies.balancing.session_affinity import SessionAffinity
from rayflow.policies.balancing.weighted import Weighted

STRATEGIES: dict[str, Callable[[BalancingConfig], Balancer]] = {
    "fastest_response": lambda config: FastestResponse(config.decay_s),
    "least_busy": lambda _: LeastBusy(),
    "power_of_two": lambda _: PowerOfTwo(),
    "prequal": lambda config: Prequal(config.hot_quantile, config.decay_s),
    "random": lambda _: Random(),
    "round_robin": lambda _: RoundRobin(),
    "session_affinity": lambda config: SessionAffinity(config.balance_factor),
    "weighted": lambda _: Weighted(),
}


def balancer(config: BalancingConfig) -> Balancer:
    """A new strategy for one pool. Raises `ConfigurationError` where an own one cannot be loaded."""
    if own.is_own(config.strategy):
        return OwnBalancer(config.strategy, own.load(config.strategy, config.options, "balancing.strategy"))
    return STRATEGIES[config.strategy](config)


class OwnBalancer(Balancer):
    """A user's strategy behind a fence: a function like `Balancer.choose`, or an object that has it, and perhaps
    `members` and `ended`, too. Where it raises, or names a replica that may not take the call, `least_busy` decides."""

    def __init__(self, name: str, policy: Any) -> None:
        self._fence = own.Fence(name, "least_busy")
        self._fallback = LeastBusy()
        self._choose: Callable[..., object] = getattr(policy, "choose", policy)
        self._members = getattr(policy, "members", _nothing)
        self._ended = getattr(policy, "ended", _nothing)

    @property
    def failures(self) -> int:
        """How often the fallback had to decide."""
        return self._fence.failures

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        chosen = self._fence.call(self._choose, self._fallback.choose, replicas, limit, now, rng, key)
        if isinstance(chosen, Replica) and chosen in replicas:
            return chosen
        self._fence.report(ValueError(f"it chose {chosen!r}, which is none of the replicas it was given"))
        return self._fallback.choose(replicas, limit, now, rng, key)

    def members(self, replicas: Sequence[Replica]) -> None:
        self._fence.call(self._members, _nothing, replicas)

    def ended(self, replica: Replica, outcome: Outcome, met: int, now: float) -> None:
        self._fence.call(self._ended, _nothing, replica, outcome, met, now)


def _nothing(*_: object) -> None:
    return None
