"""One replica for so many waiting calls: what a worker pool on a task queue does.

The queue alone says when a pool is too small and not when it is too large: in a pool that is just large enough nobody
waits. So it shrinks no further than to where the calls that are there find a place.
"""

from __future__ import annotations

from math import sqrt

from rayflow.config.schema import Replicas, ScalingConfig
from rayflow.policies.scaling.load import Load, Need


class QueueDepth:
    def __init__(self, replicas: Replicas, config: ScalingConfig) -> None:
        self._per_replica = config.queue_per_replica
        self._places = replicas.max_in_flight

    def __call__(self, load: Load, now: float) -> Need:
        calls = load.concurrency
        return Need(
            load.waiting // self._per_replica,
            (calls + sqrt(calls)) / self._places,
            f"{load.waiting} calls wait, one replica for {self._per_replica}",
        )
