"""Replicas so many that each is busy to a target, after Knative's autoscaler (KPA).

The load is the mean number of calls, worked on or waiting, over a stable window. When a short window wants a multiple
of what there is, a panic begins: nothing shrinks, the short window may ask for more, and the panic ends when a whole
stable window has passed without cause.

Not from Knative: a Poisson load of `n` calls varies by about the square root of `n`, so a pool shrinks only to what
would be needed were the load higher by that.
"""

from __future__ import annotations

from math import inf, sqrt

from rayflow.config.schema import Replicas, ScalingConfig
from rayflow.policies.scaling.load import Load, Need
from rayflow.policies.scaling.window import Window


class TargetConcurrency:
    def __init__(self, replicas: Replicas, config: ScalingConfig) -> None:
        self._window_s = config.stable_window_s
        self._places = config.target * replicas.max_in_flight
        self._stable = Window(config.stable_window_s)
        self._panic = Panic(config)

    def __call__(self, load: Load, now: float) -> Need:
        calls = self._stable.add(load.concurrency, now)
        why = f"{calls:.1f} calls over {self._window_s:g} s, {self._places:g} a replica"
        calm = Need(calls / self._places, (calls + sqrt(calls)) / self._places, why)
        return self._panic.over(calm, self._places, load, now)


class Panic:
    """A load that has just become a multiple of what the pool is made for."""

    def __init__(self, config: ScalingConfig) -> None:
        self._config = config
        self._window = Window(config.panic_window_s)
        self._began = -inf
        self._most = 0.0

    def over(self, calm: Need, places: float, load: Load, now: float) -> Need:
        """What is needed, where `calm` would be without a panic. `places`: calls one replica is to be busy with."""
        calls = self._window.add(load.concurrency, now)
        wanted = calls / places
        if wanted >= self._config.panic_threshold * max(load.ready, 1):
            self._began = now
        if now - self._began >= self._config.stable_window_s:
            self._most = 0.0
            return calm
        self._most = max(self._most, wanted, load.size)
        why = f"panic: {calls:.1f} calls over {self._config.panic_window_s:g} s, {places:g} a replica"
        return Need(max(wanted, calm.replicas), self._most, why)
