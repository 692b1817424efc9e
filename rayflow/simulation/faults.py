"""What is wrong with a replica at a moment: all faults of the scenario that concern it, taken together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rayflow.simulation.scenario import Fault


class Condition(NamedTuple):
    """How a replica is. `slow`: calls take so many times longer. `fail`: this share of them fails after
    `fail_after_s`. `model`: it is the model that fails."""

    slow: float = 1.0
    fail: float = 0.0
    fail_after_s: float = 0.0
    model: bool = False


HEALTHY = Condition()


def condition(faults: Iterable[Fault], index: int, now: float) -> Condition:
    """Of the replica with this number: slowness multiplies, of failures the worst counts."""
    found = HEALTHY
    for fault in faults:
        if _concerns(fault, index) and fault.from_s <= now and (fault.to_s is None or now < fault.to_s):
            found = Condition(
                found.slow * fault.slow,
                max(found.fail, fault.fail),
                max(found.fail_after_s, fault.fail_after_s if fault.fail else 0.0),
                found.model or (fault.fail > 0 and fault.cause == "model"),
            )
    return found


def changes(faults: Iterable[Fault], index: int) -> bool:
    """Whether a replica's speed ever changes."""
    return any(fault.slow != 1 and _concerns(fault, index) for fault in faults)


def breaks(faults: Iterable[Fault]) -> bool:
    """Whether a breaker has anything to do: it only ever hears of failing models."""
    return any(fault.fail and fault.cause == "model" for fault in faults)


def _concerns(fault: Fault, index: int) -> bool:
    return not fault.replicas or index in fault.replicas
