"""The log as whoever makes reports asks it: SQL and parameters in, rows of JSON values out.

From a log on disk (`of_log`), for commands and programs; from an analyst (`of_analyst`), for processes that serve and
have no DuckDB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from rayflow.analytics.kpis import Ask

if TYPE_CHECKING:
    from rayflow.analytics.analyst import Analyst
    from rayflow.analytics.database import Log
    from rayflow.config.schema import MonitoringConfig

TIME_S = 60.0
MEMORY_BYTES = 2 << 30
"""Of one question about the rows of all tenants."""


def of_log(log: Log) -> Ask:
    """Raises what `Log.query` raises."""

    async def ask(sql: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        return rows_of(log, sql, params)

    return ask


def rows_of(log: Log, sql: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answer to one question."""
    from rayflow.analytics.render import to_json

    rows: list[dict[str, Any]] = orjson.loads(to_json(log.query(sql, params)))
    return rows


def of_analyst(
    analyst: Analyst, tenant: str, unreadable: dict[str, str], monitoring: MonitoringConfig | None = None
) -> Ask:
    """`tenant`: whose rows count; empty for all of them. `unreadable`: gets the files that answers lack. `monitoring`:
    the limits of a tenant's questions. Raises what `Analyst.ask` raises."""
    from rayflow.analytics.analyst import Limits, Question

    limits = Limits(TIME_S, MEMORY_BYTES)
    if tenant and monitoring is not None:
        limits = Limits(monitoring.sql_timeout_s, monitoring.sql_memory_bytes)

    async def ask(sql: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = await analyst.ask(Question(sql, dict(params), tenant=tenant, trusted=not tenant, limits=limits))
        unreadable.update(answer.unreadable)
        return answer.records()

    return ask
