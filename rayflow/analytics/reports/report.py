"""What happened in a period, and how it compares: figures, tables, a trend, and what to do about it.

A report is made of the answers to the SQL of `kpis` and nothing else, so it can be made from a log on disk or from an
`Analyst`, and every number in it can be checked by asking the same of the log by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from rayflow.analytics.kpis import CATEGORIES, TABLES, TREND, Ask, Figure, Period, Row, kpi
from rayflow.analytics.reports.recommendations import Facts, Recommendation, recommend


class Measure(msgspec.Struct, frozen=True):
    """One figure. `change`: relative to the period before, 0.1 is a tenth more; None where that cannot be said.
    `good`: whether the change is for the better."""

    name: str
    unit: str
    meaning: str
    value: float | None
    before: float | None = None
    change: float | None = None
    good: bool | None = None


class Table(msgspec.Struct, frozen=True):
    """`rows`: column to value, in the order of `columns`."""

    name: str
    description: str
    columns: list[str]
    rows: list[dict[str, Any]]


class Report(msgspec.Struct, frozen=True):
    """`compared`: beginning of the period before, where it was compared with that. `trend`: see `sql/kpis/trend.sql`.
    `unreadable`: damaged files of the log that are left out, with the reason."""

    since: datetime
    until: datetime
    compared: datetime | None
    performance_metrics: list[Measure]
    business_metrics: list[Measure]
    agent_metrics: list[Measure]
    tables: list[Table]
    trend: list[dict[str, Any]]
    recommendations: list[Recommendation]
    unreadable: dict[str, str] = {}

    @property
    def categories(self) -> dict[str, list[Measure]]:
        return {name: getattr(self, name) for name in CATEGORIES}

    def measure(self, name: str) -> Measure:
        """The figure of that name; KeyError where there is none."""
        for measures in self.categories.values():
            for measure in measures:
                if measure.name == name:
                    return measure
        raise KeyError(name)

    def table(self, name: str) -> Table:
        """The table of that name; KeyError where there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)


async def build(
    ask: Ask, period: Period, *, compare: bool = True, unreadable: Callable[[], Mapping[str, str]] = dict
) -> Report:
    """The report on a period. `compare`: with the one before it. `unreadable`: files that the answers lack, asked when
    they are all there. Raises what `ask` raises."""
    measures = {name: await measured(ask, name, period, compare=compare) for name in CATEGORIES}
    tables = [await tabled(ask, name, period) for name in TABLES]
    trend = await ask(kpi(TREND).sql, period.params)
    left_out = dict(unreadable())
    facts = Facts(
        period,
        {each.name: each.value for found in measures.values() for each in found},
        {each.name: each.before for found in measures.values() for each in found},
        {table.name: table.rows for table in tables},
        left_out,
    )
    return Report(
        period.since,
        period.until,
        period.before.since if compare else None,
        **measures,
        tables=tables,
        trend=trend,
        recommendations=recommend(facts),
        unreadable=left_out,
    )


async def measured(ask: Ask, name: str, period: Period, *, compare: bool) -> list[Measure]:
    """The figures of one file."""
    sql, figures = kpi(name).sql, kpi(name).figures
    (now,) = await ask(sql, period.params)
    (before,) = await ask(sql, period.before.params) if compare else [{}]
    return [_measure(figure, now, before) for figure in figures]


async def tabled(ask: Ask, name: str, period: Period) -> Table:
    rows: Sequence[dict[str, Any]] = await ask(kpi(name).sql, period.params)
    return Table(name, kpi(name).description, list(rows[0]) if rows else [], list(rows))


def _measure(figure: Figure, now: Row, before: Row) -> Measure:
    value, past = now[figure.name], before.get(figure.name)
    change = value / past - 1 if value is not None and past else None
    good = None
    if change and figure.better != "-":
        good = (change > 0) == (figure.better == "more")
    return Measure(figure.name, figure.unit, figure.meaning, value, past, change, good)
