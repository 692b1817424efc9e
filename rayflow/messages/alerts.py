"""Who watches over the runs: what it is told, and what it says."""

from __future__ import annotations

import msgspec

from rayflow.messages.base import Payload


class Outcomes(Payload, frozen=True, tag=True):
    """A router tells how its runs have ended since it last did. `took_ms`: of those without an error, together."""

    runs: int
    errors: int
    took_ms: float


class GetAlerts(Payload, frozen=True, tag=True):
    """Ask how the rules stand. Reply: `Alerts`."""


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule. `value`: its measure now; None where there is nothing to measure. `since_us`: when it was raised, in
    microseconds since the epoch; 0 where it is not."""

    metric: str
    direction: str
    threshold: float
    window_s: float
    firing: bool
    value: float | None = None
    since_us: int = 0


class Alerts(Payload, frozen=True, tag=True):
    alerts: list[Alert]
