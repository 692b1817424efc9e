"""The views of the log over given Parquet files, without a log around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import duckdb
import orjson

from rayflow.analytics.kpis import Ask
from rayflow.analytics.render import to_json


def asking(files: Iterable[Path]) -> Ask:
    """Answers questions as an `Analyst` does: rows of JSON values."""
    listed = ", ".join(f"'{path}'" for path in files)
    database = duckdb.connect()
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    database.execute(f"CREATE VIEW segments AS SELECT *, CAST(ts AS DATE) AS date FROM read_parquet([{listed}])")
    database.execute((package_files("rayflow.analytics") / "sql" / "views.sql").read_text("utf-8"))

    async def ask(sql: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = orjson.loads(to_json(database.sql(sql, params=dict(params)).to_arrow_table()))
        return rows

    return ask
