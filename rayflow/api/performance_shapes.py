"""How the workflow does, as clients read it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class PerformanceStats(msgspec.Struct, frozen=True):
    """`average_execution_time`: milliseconds of runs that ended ok; None where there were none. `workflow_counts` and
    `success_rates`: by workflow. `performance_trends`: the period in 48 steps. The metrics: by name, as in reports."""

    since: datetime
    until: datetime
    average_execution_time: float | None
    workflow_counts: dict[str, int]
    success_rates: dict[str, float]
    performance_trends: list[dict[str, Any]]
    performance_metrics: dict[str, float | None]
    business_metrics: dict[str, float | None]
    agent_metrics: dict[str, float | None]


class AlertState(msgspec.Struct, frozen=True):
    """One rule. `since`: when it was raised, where it is."""

    metric: str
    direction: str
    threshold: float
    window_s: float
    firing: bool
    value: float | None
    since: datetime | None


class AlertList(msgspec.Struct, frozen=True):
    alerts: list[AlertState]
