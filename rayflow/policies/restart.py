"""Whether a dead child is started again, and when.

Erlang/OTP's rule (supervisor.erl, `add_restart/3`): a child may die `intensity` times within `period_s`; one more death
parks it, because a crash loop helps nobody. The wait grows with the deaths in the window, with full jitter, so that
children that died together do not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    intensity: int = 5
    period_s: float = 30.0
    base_delay_s: float = 0.1
    max_delay_s: float = 2.0


def decide(deaths: Sequence[float], policy: RestartPolicy, now: float, rng: random.Random) -> float | None:
    """Seconds to wait before the restart, or None to park the child.

    `deaths`: times of all known deaths, the one to decide about included.
    """
    recent = sum(1 for at in deaths if now - at <= policy.period_s)
    if recent > policy.intensity:
        return None
    if recent <= 1:
        return 0.0
    return rng.uniform(0, min(policy.max_delay_s, policy.base_delay_s * 2.0 ** (recent - 1)))
