"""What a report must say, asked of the Parquet files by hand: one short query for each number, no views, no shared SQL.

    differences(report, files)  # [] where every number of the report is right

The queries look at all columns of `events` by name only, so they work on any log of this schema version, also on one
that a real system has left behind; events that are not in these files (an open segment) are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from rayflow.analytics.reports import Report

ENDED = "kind = 'run.finished' AND status <> 'cancelled'"
CALLED = "kind IN ('agent.finished', 'model.finished')"
PART = "kind = 'agent.finished' AND status <> 'cancelled'"
LAST_WORD = """
    SELECT * FROM e WHERE kind = 'feedback.given' AND score IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY tenant, user_id, run_id, if(run_id IS NULL, session_id, NULL) ORDER BY ts DESC) = 1
"""
DISLIKED = f"SELECT run_id FROM ({LAST_WORD}) WHERE score < 0 AND run_id IS NOT NULL"
STAND_IN = "SELECT run_id FROM e WHERE kind = 'agent.fallback' AND json_extract_string(data, 'degraded') = 'true'"
GOOD = f"(status = 'ok' AND run_id NOT IN ({DISLIKED}) AND run_id NOT IN ({STAND_IN}))"

FIGURES = {
    "runs": f"SELECT count(*) FROM e WHERE {ENDED}",
    "response_time": "SELECT sum(duration_ms) / count(*) FROM e WHERE kind = 'run.finished' AND status = 'ok'",
    "response_time_p95": "SELECT quantile_cont(duration_ms, 0.95) FROM e WHERE kind = 'run.finished' AND status = 'ok'",
    "time_to_first_token": (
        "SELECT mean(ttft_ms) FROM e WHERE kind = 'run.finished' AND status = 'ok' AND ttft_ms IS NOT NULL"
    ),
    "throughput": f"SELECT count(*) / date_diff('microsecond', $since, $until) * 1e6 FROM e WHERE {ENDED}",
    "error_rate": f"SELECT mean(if(status = 'error', 1, 0)) FROM e WHERE {ENDED}",
    "cpu_usage": "SELECT mean(json_extract_string(data, 'cpu_usage')::DOUBLE) FROM e WHERE kind = 'system.sampled'",
    "memory_usage": (
        "SELECT mean(json_extract_string(data, 'memory_usage')::DOUBLE) FROM e WHERE kind = 'system.sampled'"
    ),
    "memory_peak": "SELECT max(json_extract_string(data, 'memory_usage')::DOUBLE) FROM e WHERE kind = 'system.sampled'",
    "user_satisfaction": f"SELECT (mean(score) + 1) / 2 FROM ({LAST_WORD})",
    "opinions": f"SELECT count(*) FROM ({LAST_WORD})",
    "conversations": f"SELECT count(*) FROM (SELECT DISTINCT tenant, session_id FROM e WHERE {ENDED})",
    "conversation_length": (
        f"SELECT mean(n) FROM (SELECT count(*) AS n FROM e WHERE {ENDED} GROUP BY tenant, session_id)"
    ),
    "conversation_quality": (
        f"SELECT mean(q) FROM (SELECT mean(if({GOOD}, 1, 0)) AS q FROM e WHERE {ENDED} GROUP BY tenant, session_id)"
    ),
    "task_completion_rate": (
        "SELECT mean(if(status = 'ok', 1, 0)) FROM (SELECT DISTINCT ON (tenant, session_id) status FROM e"
        f" WHERE {ENDED} ORDER BY ts DESC)"
    ),
    "cost": f"SELECT sum(cost_usd) FROM e WHERE {CALLED}",
    "agent_response_time": "SELECT mean(duration_ms) FROM e WHERE kind = 'agent.finished' AND status = 'ok'",
    "agent_accuracy": f"SELECT mean(if(status = 'ok' AND run_id NOT IN ({DISLIKED}), 1, 0)) FROM e WHERE {PART}",
    "delegation_rate": "SELECT mean(if(strategy = 'delegation', 1, 0)) FROM e WHERE kind = 'run.routed'",
    "agent_calls": f"SELECT count(*) FROM e WHERE {PART}",
}
"""Of the period; `e` is its events."""

TABLES: dict[str, tuple[str, str]] = {
    "agents": (
        "agent",
        f"""SELECT agent AS k, count(*) AS calls, count_if(status = 'error') AS errors,
            quantile_cont(queue_ms, 0.95) AS queue_p95,
            mean(if(status = 'ok', duration_ms, NULL)) AS response_time,
            quantile_cont(if(status = 'ok', duration_ms, NULL), 0.95) AS response_time_p95,
            mean(if(status = 'ok' AND run_id NOT IN ({DISLIKED}), 1, 0)) AS accuracy
            FROM e WHERE {PART} GROUP BY ALL""",
    ),
    "models": (
        "model",
        f"""SELECT model AS k, count(*) AS calls, count_if(status = 'error') AS errors,
            median(if(status = 'ok', duration_ms, NULL)) AS median,
            quantile_cont(if(status = 'ok', duration_ms, NULL), 0.95) AS p95, sum(prompt_tokens) AS prompt_tokens,
            sum(completion_tokens) AS completion_tokens, sum(cost_usd) AS cost
            FROM e WHERE {CALLED} AND model IS NOT NULL GROUP BY ALL""",
    ),
    "tenants": (
        "tenant",
        f"""SELECT k, count_if(r) AS runs, count_if(r AND status = 'error') AS errors,
            sum(if(r, NULL, cost_usd)) AS cost,
            mean(if(r AND status = 'ok', duration_ms, NULL)) AS response_time,
            sum(if(r, NULL, prompt_tokens)) AS prompt_tokens, sum(if(r, NULL, completion_tokens)) AS completion_tokens
            FROM (SELECT *, tenant AS k, kind = 'run.finished' AS r FROM e WHERE ({ENDED}) OR {CALLED}) GROUP BY k""",
    ),
    "workflows": (
        "workflow",
        """SELECT workflow AS k, count(*) AS runs, mean(if(status = 'ok', 1, 0)) AS success_rate,
            mean(if(status = 'ok', duration_ms, NULL)) AS execution_time
            FROM e WHERE (kind = 'run.finished' OR kind = 'workflow.tracked') AND status <> 'cancelled'
            GROUP BY ALL""",
    ),
    "errors": (
        "error",
        "SELECT error AS k, count(*) AS runs FROM e WHERE kind = 'run.finished' AND status = 'error' GROUP BY ALL",
    ),
    "routing": (
        "strategy",
        """SELECT r.strategy AS k, count(*) AS runs, mean(r.confidence) AS confidence,
            min(r.confidence) AS least_confidence, count(f.run_id) AS errors
            FROM e AS r LEFT JOIN e AS f ON f.run_id = r.run_id AND f.kind = 'run.finished' AND f.status = 'error'
            WHERE r.kind = 'run.routed' GROUP BY ALL""",
    ),
    "scaling": (
        "agent",
        """SELECT agent AS k, count_if(b > a) AS grown, count_if(b < a) AS shrunk, least(min(a), min(b)) AS smallest,
            greatest(max(a), max(b)) AS largest
            FROM (SELECT agent, json_extract_string(data, 'from')::INT AS a, json_extract_string(data, 'to')::INT AS b
                FROM e WHERE kind = 'pool.scaled') GROUP BY ALL""",
    ),
    "supervision": (
        "actor",
        """SELECT source AS k, count_if(kind <> 'actor.restarted') AS deaths,
            count_if(kind = 'actor.restarted') AS restarts, count_if(kind = 'actor.parked') AS parked
            FROM e WHERE kind IN ('actor.lost', 'actor.restarted', 'actor.parked') GROUP BY ALL""",
    ),
    "batches": (
        "job_id",
        """SELECT job_id AS k, max(json_extract_string(data, 'ok')::INT) AS ok,
            max(json_extract_string(data, 'failed')::INT) AS failed
            FROM e WHERE kind IN ('batch.started', 'batch.finished') AND job_id IS NOT NULL GROUP BY ALL""",
    ),
    "alerts": (
        "metric",
        """SELECT json_extract_string(data, 'metric') AS k, count_if(kind = 'alert.raised') AS raised,
            count_if(kind = 'alert.cleared') AS cleared FROM e WHERE kind LIKE 'alert.%' GROUP BY ALL""",
    ),
}
"""By table of the report: its key, and for each key what its other columns must be."""

TREND = f"""SELECT count(*) AS runs, count_if(status = 'error') AS errors,
    sum(if(status = 'ok', duration_ms, 0)) AS took
    FROM e WHERE {ENDED}"""


def differences(report: Report, files: Iterable[Path]) -> list[str]:
    """What is wrong in `report`, in words."""
    paths = [str(path) for path in files]
    found = list(_wrong(report, paths))
    if report.compared is not None:
        for name, expected in _figures(paths, report.compared, report.since):
            if not _same(report.measure(name).before, expected):
                found.append(f"{name} before: {report.measure(name).before}, by hand {expected}")
    return found


def _wrong(report: Report, paths: Sequence[str]) -> Iterator[str]:
    asked = dict(_figures(paths, report.since, report.until))
    told_figures = {each.name: each.value for measures in report.categories.values() for each in measures}
    if told_figures.keys() != asked.keys():
        yield f"figures that only one side knows: {sorted(told_figures.keys() ^ asked.keys())}"
    for name, expected in asked.items():
        if not _same(told_figures.get(name), expected):
            yield f"{name}: {told_figures.get(name)}, by hand {expected}"
    with _period(paths, report.since, report.until) as database:
        for table in report.tables:
            key, sql = TABLES[table.name]
            rows = _rows(database, sql)
            told = {row[key]: row for row in table.rows}
            if told.keys() != {row["k"] for row in rows}:
                yield f"{table.name}: rows of {sorted(map(str, told))}, by hand {sorted(str(row['k']) for row in rows)}"
            for row in rows:
                ours = told.get(row["k"], {})
                for name, expected in row.items():
                    if name != "k" and not _same(ours.get(name), expected):
                        yield f"{table.name}, {row['k']}, {name}: {ours.get(name)}, by hand {expected}"
        (total,) = _rows(database, TREND)
        told_runs = sum(step["runs"] for step in report.trend)
        told_errors = sum(step["errors"] for step in report.trend)
        took = sum((step["response_time"] or 0) * (step["runs"] - step["errors"]) for step in report.trend)
        if (told_runs, told_errors) != (total["runs"], total["errors"] or 0) or not _same(took, total["took"] or 0.0):
            yield f"trend: {told_runs} runs, {told_errors} errors, {took} ms; by hand {total}"


def _figures(paths: Sequence[str], since: datetime, until: datetime) -> Iterator[tuple[str, Any]]:
    with _period(paths, since, until) as database:
        for name, sql in FIGURES.items():
            params = {"since": since, "until": until} if "$since" in sql else None
            row = database.execute(sql, params).fetchone()
            assert row is not None
            yield name, row[0]


def _period(paths: Sequence[str], since: datetime, until: datetime) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.execute(
        "CREATE TABLE e AS FROM read_parquet($paths, union_by_name = true) WHERE ts >= $since AND ts < $until",
        {"paths": list(paths), "since": since, "until": until},
    )
    return database


def _rows(database: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = database.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _same(told: Any, expected: Any) -> bool:
    if told is None or expected is None:
        return told is None and expected is None
    return math.isclose(float(told), float(expected), rel_tol=1e-9, abs_tol=1e-12)
