"""Figures, changes and cells as people read them: the same in every format."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rayflow.analytics.reports.report import Measure, Report

NOTHING = "-"
HEADINGS = {
    "performance_metrics": "Performance",
    "business_metrics": "Conversations and users",
    "agent_metrics": "All agents together",
    "agents": "Agents",
    "models": "Models",
    "tenants": "Tenants",
    "workflows": "Workflows",
    "errors": "Errors",
    "routing": "Routing",
    "scaling": "Scaling",
    "supervision": "Supervision",
    "batches": "Batch jobs",
    "alerts": "Alerts",
}
_UNITS = {
    **dict.fromkeys(
        ("response_time", "response_time_p95", "queue_p95", "median", "p95", "execution_time", "duration_ms"), "ms"
    ),
    **dict.fromkeys(("accuracy", "delegated", "success_rate", "confidence", "least_confidence"), "share"),
    **dict.fromkeys(("cost", "total_cost"), "USD"),
}
"""Of columns of tables; all others are counts or text."""
_MOMENTS = frozenset(("last", "started", "ended"))


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit."""
    if value is None:
        return NOTHING
    match unit:
        case "ms":
            return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"
        case "share":
            return f"{value * 100:.1f} %"
        case "USD":
            return f"{value:,.2f} USD" if value >= 100 else f"{value:.4f} USD"
        case "runs/s":
            return f"{value:.3g} /s"
        case "turns":
            return f"{value:.1f}"
        case _:
            return f"{value:,.0f}"


def change(measure: Measure) -> str:
    """How it compares: `+12.0 % worse`."""
    if measure.change is None:
        return NOTHING
    verdict = "" if measure.good is None else " better" if measure.good else " worse"
    return f"{measure.change * 100:+,.1f} %{verdict}"


def cell(column: str, value: Any) -> str:
    """One value of a table, on one line; nothing in it can steer a terminal."""
    if value is None or value == "":
        return NOTHING
    if column in _MOMENTS:
        return moment(datetime.fromisoformat(value)).removesuffix(" UTC")
    if isinstance(value, bool | str):
        text = str(value)
        return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    if isinstance(value, int | float):
        return quantity(value, _UNITS.get(column, "")) if _UNITS.get(column) or value == int(value) else f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def is_number(column: str, values: Sequence[Any]) -> bool:
    """Whether a column is to be aligned to the right."""
    known = [value for value in values if value is not None]
    return column in _UNITS or (bool(known) and all(isinstance(value, int | float) for value in known))


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def headline(report: Report) -> str:
    """The period, and what it is compared with."""
    compared = f", compared with the time from {moment(report.compared)}" if report.compared is not None else ""
    return f"{moment(report.since)} to {moment(report.until)}{compared}"


def warning(report: Report) -> str:
    """What is missing from the report; empty where nothing is."""
    if not report.unreadable:
        return ""
    return f"{len(report.unreadable)} damaged files of the log are left out: {', '.join(sorted(report.unreadable))}"
