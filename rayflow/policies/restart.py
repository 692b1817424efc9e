"""What the death of a child leads to: whether it is started again, when, and who else with it.

The words and the rules are those of Erlang/OTP (supervisor.erl): a restart type says which deaths matter, a strategy
says who shares the fate of the dead, and a child may die `intensity` times within `period_s` (`add_restart/3`); one
more death parks it, because a crash loop helps nobody. Not from OTP: the wait grows with the child's own deaths in the
window, with full jitter, so that children that died together do not come back together; and what is parked is tried
again after a while.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

RestartType = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
ExitReason = Literal["normal", "shutdown", "abnormal"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`per_sibling`: so many more deaths are allowed for each further child of the group. `retry_after_s`: how long a
    child stays parked until it gets one more chance."""

    intensity: int = 5
    per_sibling: int = 0
    period_s: float = 30.0
    base_delay_s: float = 0.1
    max_delay_s: float = 2.0
    retry_after_s: float = 60.0

    def of(self, size: int) -> RestartPolicy:
        """The policy of a group of so many children."""
        return replace(self, intensity=self.intensity + self.per_sibling * (size - 1), per_sibling=0)


def wanted(restart: RestartType, reason: ExitReason) -> bool:
    """Whether a child that ended like this is started again: a permanent one always, a temporary one never, a
    transient one only when it did not end on purpose."""
    return restart == "permanent" or (restart == "transient" and reason == "abnormal")


def along(strategy: Strategy, siblings: Sequence[T], dead: T) -> list[T]:
    """Who is stopped and started again with the dead one, itself included, in start order.

    `siblings`: the whole group in start order.
    """
    match strategy:
        case "one_for_one":
            return [dead]
        case "one_for_all":
            return list(siblings)
        case "rest_for_one":
            return list(siblings[siblings.index(dead) :])


def decide(
    deaths: Sequence[float],
    policy: RestartPolicy,
    now: float,
    rng: random.Random,
    own: Sequence[float] | None = None,
) -> float | None:
    """Seconds to wait before the restart, or None to park the child.

    `deaths`: times of all known deaths, the one to decide about included. `own`: those of the child alone, where it has
    siblings: for their deaths it does not wait longer, because it is not the one that keeps dying.
    """
    recent = _recent(deaths, policy, now)
    if recent > policy.intensity:
        return None
    if recent <= 1:
        return 0.0
    recent_own = recent if own is None else _recent(own, policy, now)
    return rng.uniform(0, min(policy.max_delay_s, policy.base_delay_s * 2.0 ** (recent_own - 1)))


def _recent(deaths: Sequence[float], policy: RestartPolicy, now: float) -> int:
    return sum(1 for at in deaths if now - at <= policy.period_s)
