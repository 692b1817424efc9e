"""From what a strategy makes of the load to a number of replicas.

In this order: the strategy's need, with hysteresis; floors (square-root staffing, slow responses, the age of the
queue, schedules, a call that waits at an empty pool); the largest step; the limits; and at last the most that was
wanted within `down_delay_s`, so that a pool shrinks only when it has been too large for that long. Each of these may
replace the reason: the target's is the one that decided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil, floor, inf, sqrt
from typing import Any

from rayflow.config.schema import Replicas, ScalingConfig
from rayflow.policies import own
from rayflow.policies.scaling.concurrency import TargetConcurrency
from rayflow.policies.scaling.load import Load, Need, Target
from rayflow.policies.scaling.predictive import Predictive
from rayflow.policies.scaling.queue_depth import QueueDepth
from rayflow.policies.scaling.schedule import scheduled
from rayflow.policies.scaling.slow import SlowResponses
from rayflow.policies.scaling.window import Window

Decide = Callable[[Load, float], Need]
"""A `Strategy` that is known to say a `Need`."""

BUILT_IN: dict[str, Callable[[Replicas, ScalingConfig], Decide]] = {
    "queue_depth": QueueDepth,
    "target_concurrency": TargetConcurrency,
    "predictive": Predictive,
}
WHOLE = 1e-9
"""What a need may exceed a whole number by without asking for another replica."""


def can_scale(replicas: Replicas, config: ScalingConfig) -> bool:
    """Whether there is anything to decide."""
    return config.strategy != "manual" and replicas.max > replicas.min


class Scaler:
    """Of one pool. Raises `ConfigurationError` where the policy of one's own cannot be loaded."""

    def __init__(self, replicas: Replicas, config: ScalingConfig) -> None:
        self._replicas = replicas
        self._config = config
        self._strategy = _strategy(replicas, config)
        self._mean = Window(config.stable_window_s)
        self._slow = SlowResponses(config)
        self._wanted: deque[tuple[float, Target]] = deque()
        """Within `down_delay_s`: falling, so that the first is the most."""
        self._arrived = 0
        self._idle = True

    def by_hand(self, replicas: int, now: float) -> Target:
        """Somebody wants so many, within the limits. That stands: with `manual` until the next one; otherwise nothing
        shrinks below it for `down_delay_s`, and more load may ask for more at once."""
        target = self._within(replicas, "by hand")
        self._wanted.clear()
        self._wanted.append((now, target))
        return target

    def decide(self, load: Load, now: float, wall_s: float) -> Target:
        """Called every `interval_s`. `now`: a clock that never goes back; `wall_s`: Unix time, for schedules."""
        if self._strategy is None:
            if not self._wanted:
                self.by_hand(self._replicas.min, now)
            return self._wanted[0][1]
        if not self._wanted:  # what there is was wanted by somebody
            self._wanted.append((now, self._within(load.size, "as it was")))
        wish = self._floors(self._wish(self._strategy, load, now), load, now, wall_s)
        return self._stabilised(self._bounded(wish, load), load, now)

    # --- what is wanted now ---

    def _wish(self, strategy: Decide, load: Load, now: float) -> Target:
        """The need, rounded up. Between what is needed and what is kept, the pool stays as it is. Means over time never
        become quite 0, so it is the absence of any call that a pool goes to zero by."""
        need = strategy(load, now)
        self._idle = not load.concurrency and load.arrived == self._arrived
        self._arrived = load.arrived
        if self._idle and not self._replicas.min:
            return Target(0, "no calls")
        least, keep = _whole(need.replicas), _whole(max(need.replicas, need.keep))
        return Target(min(max(load.size, least), keep), need.reason)

    def _floors(self, wish: Target, load: Load, now: float, wall_s: float) -> Target:
        for target in (
            self._staffing(load, now),
            Target(self._slow.look(load, now), f"responses take {self._slow.mean_s:.1f} s"),
            self._aged(load),
            Target(scheduled(self._config.schedules, wall_s), "by schedule"),
            self._least(load),
        ):
            if target.replicas > wish.replicas:
                wish = target
        return wish

    def _staffing(self, load: Load, now: float) -> Target:
        """Offered load plus so many of its square roots: the classical rule for a constant quality of service."""
        if not self._config.staffing:
            return Target(0, "")
        calls = self._mean.add(load.concurrency, now)
        spare = self._config.staffing * sqrt(calls)
        replicas = _whole((calls + spare) / self._replicas.max_in_flight)
        return Target(replicas, f"staffing for {calls:.1f} + {spare:.1f} calls")

    def _aged(self, load: Load) -> Target:
        """One more for a call that has waited too long; but what was ordered for it is waited for."""
        if load.oldest_s < self._config.queue_age_s:
            return Target(0, "")
        return Target(load.ready + max(load.starting, 1), f"a call has waited for {load.oldest_s:.1f} s")

    def _least(self, load: Load) -> Target:
        """The lower limit; where that is 0, one while there is anything to do."""
        if self._replicas.min or self._idle:
            return Target(self._replicas.min, "the lower limit")
        return Target(1, f"{load.concurrency} calls there")

    # --- how far, how soon ---

    def _bounded(self, wish: Target, load: Load) -> Target:
        step = max(ceil(max(load.ready, 1) * self._config.max_up), load.size)
        return self._within(min(wish.replicas, step), wish.reason)

    def _within(self, replicas: int, reason: str) -> Target:
        return Target(min(max(replicas, self._replicas.min), self._replicas.max), reason)

    def _stabilised(self, wish: Target, load: Load, now: float) -> Target:
        """The most that was wanted within `down_delay_s`, and no more than one step down."""
        wanted = self._wanted
        while wanted and wanted[-1][1].replicas <= wish.replicas:
            wanted.pop()
        wanted.append((now, wish))
        while wanted[0][0] < now - self._config.down_delay_s:
            wanted.popleft()
        most = wanted[0][1]
        if most.replicas >= load.size:
            return most
        smallest = floor(load.size / self._config.max_down)
        return Target(max(most.replicas, smallest), f"less load for {self._config.down_delay_s:g} s: {wish.reason}")


def _whole(replicas: float) -> int:
    return ceil(replicas - WHOLE)


def _strategy(replicas: Replicas, config: ScalingConfig) -> Decide | None:
    if config.strategy == "manual":
        return None
    if own.is_own(config.strategy):
        return Own(config, QueueDepth(replicas, config))
    return BUILT_IN[config.strategy](replicas, config)


class Own:
    """A policy of one's own. Where it raises, or says what is no number of replicas, `queue_depth` decides."""

    def __init__(self, config: ScalingConfig, fallback: QueueDepth) -> None:
        self._own: Any = own.load(config.strategy, config.options, "scaling.strategy")
        self._fence = own.Fence(config.strategy, "queue_depth")
        self._fallback = fallback

    def __call__(self, load: Load, now: float) -> Need:
        return self._fence.call(self._checked, self._fallback, load, now)

    def _checked(self, load: Load, now: float) -> Need:
        said = self._own(load, now)
        match said:
            case Need():
                need = said
            case Target(replicas, reason):
                need = Need(replicas, replicas, reason)
            case int() | float():
                need = Need(said, said, "a policy of your own")
            case _:
                raise TypeError(f"expected a Target or a number of replicas, got {said!r}")
        if not 0 <= need.replicas < inf:
            raise ValueError(f"expected a number of replicas of at least 0, got {need.replicas}")
        return need
