"""What is said of SQL over HTTP."""

from __future__ import annotations

from typing import Annotated

import msgspec

from rayflow.analytics.analyst import Answer, Column
from rayflow.analytics.analyst.question import Form
from rayflow.analytics.named import NamedQuery

Value = str | int | float | bool | None


class SqlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sql`: one SELECT over the views of docs/queries.md; or `name`: a named query. `params`: values for `$name`."""

    sql: str | None = None
    name: str | None = None
    params: dict[str, Value] = {}
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Most rows to return, if fewer than `monitoring.sql_max_rows`."""
    format: Form = "json"


class SqlAnswer(msgspec.Struct, frozen=True):
    """`rows`: an object each. `truncated`: there were more. `incomplete`: files of the log are damaged and left out;
    `unreadable` names them, relative to the log."""

    columns: list[Column]
    rows: msgspec.Raw
    row_count: int
    truncated: bool
    incomplete: bool
    unreadable: list[str]


class QueryInfo(msgspec.Struct, frozen=True):
    """`params`: the parameters with their defaults; null: it must be given."""

    name: str
    description: str
    params: dict[str, str | None]


class QueryList(msgspec.Struct, frozen=True):
    """All named queries."""

    queries: list[QueryInfo]


def answer_of(answer: Answer) -> SqlAnswer:
    return SqlAnswer(
        answer.columns,
        msgspec.Raw(answer.body),
        answer.rows,
        answer.truncated,
        answer.incomplete,
        [*answer.unreadable],
    )


def query_of(query: NamedQuery) -> QueryInfo:
    return QueryInfo(query.name, query.description, query.params)
