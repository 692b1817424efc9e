"""The figures by which a workflow is judged, each defined once: in words and as SQL, in one file of `sql/kpis/`.

A file begins with `-- name:` and `-- description:`. One that has `-- figure: NAME | UNIT | BETTER | MEANING` lines
answers with a single row of these figures; any other one with a table. All look at a period, from `$since` to before
`$until`, over the views of the log; a run belongs to the period in which it ended. docs/reports.md lists the figures.

This module imports neither DuckDB nor Arrow: whoever serves makes reports from an `Analyst`'s answers.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple, TypeAlias

from rayflow.errors import ValidationError

Row: TypeAlias = Mapping[str, Any]
Ask = Callable[[str, Mapping[str, Any]], Awaitable[list[dict[str, Any]]]]
"""The rows that SQL with `$name` parameters answers."""

CATEGORIES = ("performance_metrics", "business_metrics", "agent_metrics")
TABLES = (
    "agents", "models", "tenants", "workflows", "errors", "routing", "scaling", "supervision", "batches", "alerts",
)  # fmt: skip
TREND = "trend"
STEPS = 48
"""Into so many steps `trend` divides the period."""

_HEADER = re.compile(r"^-- (name|description|figure): *(.+?) *$", re.MULTILINE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Figure(NamedTuple):
    """`better`: more, less, or "-" where neither is."""

    name: str
    unit: str
    better: Literal["more", "less", "-"]
    meaning: str


class Kpi(NamedTuple):
    """One file. `sql` takes `$since` and `$until`."""

    name: str
    description: str
    figures: tuple[Figure, ...]
    sql: str


class Period(NamedTuple):
    """From `since` to before `until`, both with a time zone."""

    since: datetime
    until: datetime

    @property
    def before(self) -> Period:
        """The period of the same length that ends where this one begins."""
        return Period(self.since - (self.until - self.since), self.since)

    @property
    def params(self) -> dict[str, Any]:
        return {"since": self.since.isoformat(), "until": self.until.isoformat()}


@cache
def kpi(name: str) -> Kpi:
    """The file of that name."""
    text = (files("rayflow.analytics") / "sql" / "kpis" / f"{name}.sql").read_text("utf-8")
    facts: dict[str, str] = {}
    figures = []
    for key, value in _HEADER.findall(text):
        if key == "figure":
            figures.append(Figure(*(part.strip() for part in value.split("|", 3))))
        else:
            facts[key] = value
    return Kpi(facts["name"], facts["description"], tuple(figures), text)


def period(since: str, until: str | None, now: datetime) -> Period:
    """What a user means: each is a time (ISO 8601, UTC where it says nothing) or a span before `now` (`90m`, `1d`).

    `until`: None is now. Raises `ValidationError` for what is neither, and for a period that ends before it begins.
    """
    found = Period(_moment(since, "since", now), _moment(until, "until", now) if until else now)
    if found.since >= found.until:
        raise ValidationError(
            f"since: expected a time before {found.until.isoformat()}, got {found.since.isoformat()}", param="since"
        )
    try:
        _ = found.before
    except OverflowError:
        raise ValidationError(f"since: nothing happened before {found.since.isoformat()}", param="since") from None
    return found


def _moment(text: str, param: str, now: datetime) -> datetime:
    if span := _SPAN.fullmatch(text.strip()):
        try:
            return now - timedelta(seconds=float(span[1]) * _SECONDS[span[2]])
        except OverflowError:
            raise ValidationError(f"{param}: {text} ago is before the first year", param=param) from None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValidationError(
            f"{param}: expected a span such as 90m, 12h, 1d, 2w or a time such as 2026-11-21T08:00, got {text[:60]!r}",
            param=param,
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
