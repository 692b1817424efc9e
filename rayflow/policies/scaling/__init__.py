"""How many replicas an agent should have: a `Scaler` looks at the `Load` every moment and says a `Target`.

A strategy says what the load needs (queue_depth.py, concurrency.py, predictive.py, or a policy of one's own). What is
common to all of them, limits, schedules, hysteresis, steps, the age of the queue, is the scaler's (scaler.py).
"""

from rayflow.policies.scaling.load import Load, Need, Strategy, Target
from rayflow.policies.scaling.scaler import Scaler, can_scale

__all__ = ["Load", "Need", "Scaler", "Strategy", "Target", "can_scale"]
