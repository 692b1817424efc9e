"""Target concurrency for the load to come: a replica that is ordered now serves in a few seconds, so what counts is
the load then.

The forecast is Holt's, with a level about as quick as the panic window and a calmer trend. It varies more than the mean
of a stable window, so the pool shrinks only to what both the mean and the forecast would need with a wider margin.
"""

from __future__ import annotations

from math import sqrt

from rayflow.config.schema import Replicas, ScalingConfig
from rayflow.policies.scaling.concurrency import Panic
from rayflow.policies.scaling.holt import Holt
from rayflow.policies.scaling.load import Load, Need
from rayflow.policies.scaling.window import Window

MARGIN = 1.5
"""Square roots of the load."""


class Predictive:
    def __init__(self, replicas: Replicas, config: ScalingConfig) -> None:
        self._places = config.target * replicas.max_in_flight
        self._stable = Window(config.stable_window_s)
        self._holt = Holt(1.5 * config.panic_window_s, config.stable_window_s / 2)
        self._panic = Panic(config)
        self._ahead_s = config.start_up_s

    def __call__(self, load: Load, now: float) -> Need:
        mean = self._stable.add(load.concurrency, now)
        self._holt.add(load.concurrency, now)
        calls = self._holt.ahead(self._ahead_s)
        most = max(calls, mean)
        keep = most + MARGIN * sqrt(most)
        why = f"{calls:.1f} calls expected in {self._ahead_s:g} s, {self._places:g} a replica"
        return self._panic.over(Need(calls / self._places, keep / self._places, why), self._places, load, now)
