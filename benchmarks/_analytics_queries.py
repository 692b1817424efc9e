"""The query part of benchmarks/analytics.py: named queries and the report against the same questions by hand.

A log of realistic events is made first (seeded, a week of traffic, in segments as the event log writes them). Then each
question is asked twice: as users do, of the views, and as somebody who knows the files would write it, of
`read_parquet([...])` and nothing else. Both must answer the same. The report by hand is the query for each of its
numbers that the tests check it with. The two sides take turns, and the ratio is that of the medians, of seconds and of
CPU seconds. The peak of memory is that of a process which asks one question.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from rayflow.analytics import kpis
from rayflow.analytics.database import open_log
from rayflow.analytics.manifest import changing
from rayflow.analytics.named import named_queries
from rayflow.analytics.reports import Report, build
from rayflow.analytics.schema import SCHEMA
from rayflow.analytics.segments import settle, stage_segments
from rayflow.app.asked_log import of_log

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.report_oracle import FIGURES, TABLES

CHUNK_RUNS = 15_000
EVENTS_PER_RUN = 7.43
WEEK_US = 7 * 86_400 * 1_000_000

# Events of the runs [$first, $first + $count) of $runs in all. What is random comes from the number of the run.
_EVENTS = """
WITH runs AS (
    SELECT
        i,
        $begin_us + CAST(i * ($span_us / $runs) AS BIGINT) AS began_us,
        i % 977 AS dice,
        40 + (hash(i) % 100000) / 40.0 AS took_ms,
        ['billing', 'technical', 'sales', 'returns', 'general', 'legal'][1 + CAST(hash(i, 1) % 6 AS INTEGER)] AS agent,
        'tenant-' || (hash(i // 5, 2) % 40) AS tenant,
        'user-' || (hash(i // 5, 3) % 20000) AS user_id,
        'sess_' || md5(CAST(i // 5 AS VARCHAR)) AS session_id,
        ['gpt-5-mini', 'gpt-5', 'local-8b'][1 + CAST(hash(i, 4) % 3 AS INTEGER)] AS model,
        200 + hash(i, 5) % 3000 AS prompt, 20 + hash(i, 6) % 400 AS answer
    FROM range($first, $first + $count) t(i)
), steps(nr, kind, share) AS (
    VALUES (1, 'run.started', 0.0), (2, 'turn.committed', 0.01), (3, 'run.routed', 0.02), (4, 'agent.started', 0.04),
        (5, 'model.finished', 0.5), (6, 'agent.fallback', 0.5), (7, 'agent.finished', 0.98),
        (8, 'turn.committed', 0.99), (9, 'run.finished', 1.0), (10, 'feedback.given', 2.0)
)
SELECT
    kind,
    began_us + CAST(took_ms * share * 1000 AS BIGINT) AS ts,
    'router/' || (i % 2) AS source,
    NULL AS node,
    printf('run_%012x', began_us // 1000) || md5(CAST(i AS VARCHAR)) AS run_id,
    nr AS seq,
    NULL AS trace_id, NULL AS span_id,
    ['support', 'shop'][1 + CAST(i % 2 AS INTEGER)] AS workflow,
    CASE WHEN nr IN (4, 5, 6, 7, 8, 10) THEN agent END AS agent,
    CASE WHEN nr IN (4, 5, 6, 7) THEN 'agent/' || agent || '/' || (hash(i, 7) % 4) END AS replica,
    CASE WHEN nr IN (5, 7) THEN 'openai' END AS provider,
    CASE WHEN nr IN (5, 7) THEN model END AS model,
    tenant, user_id, session_id,
    ['chat', 'native', 'batch'][1 + CAST(hash(i, 8) % 3 AS INTEGER)] AS channel,
    'interactive' AS priority,
    NULL AS job_id, NULL AS item_id,
    CASE WHEN nr IN (7, 9) THEN CASE WHEN dice < 20 THEN 'error' ELSE 'ok' END WHEN nr = 5 THEN 'error' END AS status,
    CASE WHEN nr IN (7, 9) AND dice < 20 OR nr IN (5, 6) THEN 'model-timeout' END AS error,
    CASE WHEN nr IN (7, 9) AND dice < 20 OR nr IN (5, 6) THEN 'no answer within 30 s' END AS error_message,
    CASE WHEN nr = 7 THEN 'stop' END AS finish_reason,
    CASE WHEN nr IN (4, 5, 7) THEN 1 END AS attempt,
    CASE WHEN nr IN (5, 7) THEN took_ms * 0.9 WHEN nr = 9 THEN took_ms END AS duration_ms,
    CASE WHEN nr IN (4, 5, 7) THEN (hash(i, 9) % 1000) / 20.0 END AS queue_ms,
    CASE WHEN nr IN (7, 9) THEN took_ms * 0.1 END AS ttft_ms,
    CASE WHEN nr = 7 THEN answer / took_ms * 1000 END AS tokens_per_s,
    CASE WHEN nr IN (7, 9) THEN prompt END AS prompt_tokens,
    CASE WHEN nr IN (7, 9) AND i % 3 = 0 THEN prompt // 2 END AS cached_tokens,
    CASE WHEN nr IN (7, 9) THEN answer END AS completion_tokens,
    NULL AS reasoning_tokens,
    CASE WHEN nr IN (7, 9) AND model <> 'local-8b' THEN prompt * 25e-8 + answer * 2e-6 END AS cost_usd,
    CASE WHEN nr IN (3, 9) THEN (hash(i, 10) % 100) / 100.0 END AS confidence,
    CASE WHEN nr = 10 THEN CASE WHEN hash(i, 11) % 4 = 0 THEN -1 ELSE 1 END END AS score,
    CASE WHEN nr IN (3, 9) THEN ['keyword', 'intelligent', 'default'][1 + CAST(hash(i, 12) % 3 AS INTEGER)]
        WHEN nr = 4 THEN 'least-loaded' END AS strategy,
    NULL AS content,
    1 AS epoch,
    'router-' || (i % 2) || '-' || (i * 10 + nr) AS event_id,
    CASE nr
        WHEN 1 THEN '{"messages":1}'
        WHEN 2 THEN printf('{"role":"user","turn":%d,"chars":%d}', i % 5 * 2 + 1, prompt % 300)
        WHEN 3 THEN printf('{"agents":["%s"],"reason":"rule %d","scores":{"%s":%.3f}}', agent, dice, agent, dice / 977)
        WHEN 4 THEN printf('{"loads":{"agent/%s/0":%.2f,"agent/%s/1":%.2f}}', agent, dice / 977, agent, took_ms / 3000)
        WHEN 6 THEN '{"agent":"general","model":"local-8b"}'
        WHEN 7 THEN printf('{"chunks":%d,"response_id":"chatcmpl-%s"}', answer, md5(CAST(i + 1 AS VARCHAR))[:24])
        WHEN 8 THEN printf('{"role":"assistant","turn":%d,"chars":%d}', i % 5 * 2 + 2, answer * 4)
        WHEN 9 THEN printf('{"agents":["%s"]}', agent)
        WHEN 10 THEN CASE WHEN hash(i, 11) % 4 = 0 THEN '{"thumb":"down"}' ELSE '{"thumb":"up"}' END
    END AS data
FROM runs, steps
WHERE (nr NOT IN (5, 6) OR dice % 20 = 0) AND (nr <> 10 OR dice % 3 = 0)
    AND (nr NOT IN (7, 8, 9) OR dice <> 500)
"""

_ENDS = "kind = 'run.finished'"
BY_HAND: dict[str, str] = {
    "latency_by_agent": """
        SELECT agent, count(*) AS requests, count(*) FILTER (status = 'error') AS errors,
            round(quantile_cont(duration_ms, 0.50), 1), round(quantile_cont(duration_ms, 0.95), 1),
            round(quantile_cont(ttft_ms, 0.50), 1), round(quantile_cont(ttft_ms, 0.95), 1)
        FROM log WHERE kind = 'agent.finished' AND ts >= now() - INTERVAL '30 days'
        GROUP BY agent ORDER BY requests DESC, agent""",
    "tokens_by_workflow": f"""
        SELECT workflow, count(*), CAST(sum(prompt_tokens) AS BIGINT), CAST(sum(completion_tokens) AS BIGINT),
            CAST(sum(prompt_tokens) + sum(completion_tokens) AS BIGINT) AS total
        FROM log WHERE {_ENDS} AND ts >= now() - INTERVAL '30 days' GROUP BY workflow ORDER BY total DESC, workflow""",
    "errors_per_minute": f"""
        SELECT time_bucket(INTERVAL 1 MINUTE, ts) AS minute, count(*), count(*) FILTER (status = 'error'),
            round(count(*) FILTER (status = 'error') / count(*), 4)
        FROM log WHERE {_ENDS} AND ts >= now() - INTERVAL '30 days' GROUP BY minute ORDER BY minute""",
    "slowest_runs": f"""
        SELECT run_id, workflow, ts - to_microseconds(CAST(duration_ms * 1000 AS BIGINT)), round(duration_ms, 1),
            round(ttft_ms, 1), status, error, CAST(data -> '$.agents' AS VARCHAR[])
        FROM log WHERE {_ENDS} AND ts >= now() - INTERVAL '30 days' AND duration_ms IS NOT NULL
        ORDER BY log.duration_ms DESC, run_id LIMIT 10""",
    "cost_by_tenant": """
        SELECT tenant, count(*) AS calls, CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT),
            CAST(coalesce(sum(completion_tokens), 0) AS BIGINT), round(coalesce(sum(cost_usd), 0), 6) AS cost,
            count(*) FILTER (cost_usd IS NULL AND prompt_tokens IS NOT NULL)
        FROM log WHERE kind IN ('agent.finished', 'model.finished') AND model IS NOT NULL
            AND ts >= now() - INTERVAL '30 days'
        GROUP BY tenant ORDER BY cost DESC, calls DESC, tenant""",
    "model_usage": """
        SELECT model, count(*) AS calls, count(*) FILTER (status = 'error'),
            round(count(*) FILTER (status = 'error') / count(*), 4), count(*) FILTER (finish_reason = 'length'),
            round(quantile_cont(duration_ms, 0.50), 1), round(quantile_cont(duration_ms, 0.95), 1),
            CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT), CAST(coalesce(sum(completion_tokens), 0) AS BIGINT),
            CAST(coalesce(sum(reasoning_tokens), 0) AS BIGINT)
        FROM log WHERE kind IN ('agent.finished', 'model.finished') AND model IS NOT NULL
            AND ts >= now() - INTERVAL '30 days'
        GROUP BY model ORDER BY calls DESC, model""",
    "queue_wait": """
        SELECT agent, priority, count(*), round(avg(queue_ms), 1), round(quantile_cont(queue_ms, 0.50), 1),
            round(quantile_cont(queue_ms, 0.95), 1) AS p95, round(max(queue_ms), 1)
        FROM log WHERE kind = 'agent.started' AND ts >= now() - INTERVAL '30 days'
        GROUP BY agent, priority ORDER BY p95 DESC, agent, priority""",
    "sessions_most_active": """
        SELECT session_id, count(*) AS turns, count(*) FILTER (data ->> '$.role' = 'user'), count(DISTINCT run_id),
            CAST(sum(CAST(data ->> '$.chars' AS BIGINT)) AS BIGINT), min(ts), max(ts)
        FROM log WHERE kind = 'turn.committed' AND ts >= now() - INTERVAL '30 days'
        GROUP BY session_id ORDER BY turns DESC, session_id LIMIT 10""",
    "routing_summary": f"""
        SELECT strategy, CAST(data -> '$.agents' AS VARCHAR[]) AS agents, count(*) AS runs, round(avg(confidence), 3),
            round(min(confidence), 3), count(*) FILTER (status = 'error')
        FROM log WHERE {_ENDS} AND strategy IS NOT NULL AND ts >= now() - INTERVAL '30 days'
        GROUP BY strategy, agents ORDER BY runs DESC, strategy, agents""",
    "runs_by_channel": f"""
        WITH ended AS (
            SELECT run_id, channel, status, duration_ms FROM log
            WHERE {_ENDS} AND ts >= now() - INTERVAL '30 days'
        ), all_runs AS (
            FROM ended UNION ALL
            SELECT run_id, channel, 'unfinished', NULL FROM log ANTI JOIN ended USING (run_id)
            WHERE kind = 'run.started' AND ts >= now() - INTERVAL '30 days'
        )
        SELECT channel, count(*) AS runs, count(*) FILTER (status = 'ok'), count(*) FILTER (status = 'error'),
            count(*) FILTER (status = 'cancelled'), count(*) FILTER (status = 'unfinished'),
            round(quantile_cont(duration_ms, 0.50), 1)
        FROM all_runs GROUP BY channel ORDER BY runs DESC, channel""",
    "run_story": """
        SELECT seq, round(epoch_us(ts - min(ts) OVER ()) / 1000, 1), kind, agent, replica, model, attempt,
            coalesce(error, status), round(queue_ms, 1), round(duration_ms, 1), prompt_tokens, completion_tokens,
            cost_usd, error_message, content, data
        FROM log WHERE run_id = $run_id ORDER BY seq, ts, kind""",
    "retries_and_fallbacks": """
        SELECT agent, error, count(*) FILTER (kind = 'agent.retried'), count(*) FILTER (kind = 'agent.hedged'),
            count(*) FILTER (kind = 'agent.fallback' AND data ->> '$.degraded' IS NULL),
            count(*) FILTER (kind = 'agent.fallback' AND data ->> '$.degraded' = 'true'),
            count(DISTINCT run_id) AS runs
        FROM log WHERE kind IN ('agent.retried', 'agent.hedged', 'agent.fallback')
            AND ts >= now() - INTERVAL '30 days'
        GROUP BY agent, error ORDER BY runs DESC, agent, error""",
}


class Side(NamedTuple):
    ask: Callable[[str], pa.Table]
    close: Callable[[], None]


def make_log(root: Path, events: int) -> int:
    """A log of about so many events, until an hour ago. Returns how many there are."""
    root.mkdir(parents=True)
    runs = round(events / EVENTS_PER_RUN)
    now_us = time.time_ns() // 1000 - 3_600_000_000
    written = 0
    with duckdb.connect() as database:
        for first in range(0, runs, CHUNK_RUNS):
            count = min(CHUNK_RUNS, runs - first)
            place = {
                "first": first,
                "count": count,
                "runs": runs,
                "span_us": WEEK_US,
                "begin_us": now_us - WEEK_US,
            }
            made = database.sql(_EVENTS, params=place).to_arrow_table()
            rows = pa.Table.from_arrays([_column(made[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
            with changing(root) as manifest:
                staged = stage_segments(root, "benchmark/0", rows, ())
                manifest.segments.update({segment.name: segment for segment in staged})
            settle(root, staged)
            written += rows.num_rows
    return written


def _column(made: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind):
        return made.cast(pa.string()).dictionary_encode().cast(kind)
    if kind == pa.json_():
        return pa.chunked_array(
            [pa.ExtensionArray.from_storage(kind, chunk) for chunk in made.cast(pa.string()).chunks]
        )
    return made.cast(pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else made.cast(kind)


def views(root: Path) -> Side:
    """As `rayflow query` asks: with a fresh snapshot each time."""
    queries = named_queries()

    def ask(name: str) -> pa.Table:
        with open_log(root) as log:
            return log.query(queries[name].sql, queries[name].bind(_params(root, name)))

    return Side(ask, lambda: None)


def by_hand(root: Path) -> Side:
    def ask(name: str) -> pa.Table:
        paths = ", ".join(f"'{path}'" for path in sorted(root.glob("date=*/*.parquet")))
        with duckdb.connect(config={"memory_limit": "1GiB"}) as database:
            database.execute(f"CREATE VIEW log AS FROM read_parquet([{paths}])")
            params = {"run_id": _params(root, name)["run_id"]} if name == "run_story" else None
            return database.sql(BY_HAND[name], params=params).to_arrow_table()

    return Side(ask, lambda: None)


def _params(root: Path, name: str) -> dict[str, str]:
    if name == "run_story":
        return {"run_id": (root.parent / "one_run").read_text()}
    return {} if "since" not in named_queries()[name].params else {"since": "30 days"}


def report(root: Path, asked: kpis.Period) -> Report:
    """As `rayflow report` makes it."""
    with open_log(root) as log:
        return asyncio.run(build(of_log(log), asked, compare=False, unreadable=dict))


def report_by_hand(root: Path, asked: kpis.Period) -> dict[str, Any]:
    """Every figure by name; the tables are asked for, too."""
    paths = ", ".join(f"'{path}'" for path in sorted(root.glob("date=*/*.parquet")))
    period = {"since": asked.since, "until": asked.until}
    with duckdb.connect(config={"memory_limit": "1GiB"}) as database:
        database.execute("SET TimeZone = 'UTC'")
        between = f"ts >= TIMESTAMPTZ '{asked.since.isoformat()}' AND ts < TIMESTAMPTZ '{asked.until.isoformat()}'"
        database.execute(f"CREATE VIEW e AS FROM read_parquet([{paths}]) WHERE {between}")
        for _, sql in TABLES.values():
            database.sql(sql).fetchall()
        return {
            name: database.execute(sql, period if "$since" in sql else None).fetchone()[0]
            for name, sql in FIGURES.items()
        }


def compare(root: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Each question on both sides by turns."""
    ours, theirs = views(root), by_hand(root)
    asked = kpis.period("8d", None, datetime.now(UTC))
    told = {each.name: each.value for measures in report(root, asked).categories.values() for each in measures}
    expected = report_by_hand(root, asked)
    if wrong := [name for name in expected if not _same(_float(told[name]), _float(expected[name]))]:
        raise AssertionError(f"the report and the SQL by hand disagree on {wrong}")
    yield {"query": "report"} | timed(rounds, lambda: report(root, asked), lambda: report_by_hand(root, asked))
    for name in BY_HAND:
        if not _alike(ours.ask(name), theirs.ask(name)):
            raise AssertionError(f"{name}: the views and the SQL by hand disagree")
        yield {"query": name} | timed(rounds, partial(ours.ask, name), partial(theirs.ask, name))


def timed(rounds: int, view: Callable[[], object], hand: Callable[[], object]) -> dict[str, float]:
    """Medians of both sides, which take turns, and the ratio of them."""
    taken: dict[str, list[tuple[float, float]]] = {"view": [], "hand": []}
    for _ in range(rounds):
        for side, ask in (("view", view), ("hand", hand)):
            gc.collect()
            began = time.perf_counter(), time.process_time()
            ask()
            taken[side].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    row: dict[str, float] = {}
    for i, unit in enumerate(("ms", "cpu_ms")):
        ours, theirs = (1000 * statistics.median(pair[i] for pair in taken[side]) for side in ("view", "hand"))
        row |= {
            f"view_{unit}": round(ours, 1),
            f"hand_{unit}": round(theirs, 1),
            f"{unit}_ratio": round(ours / theirs, 3),
        }
    return row


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _alike(one: pa.Table, other: pa.Table) -> bool:
    """Whether all values are the same; sums of floats depend on their order, which threads decide."""
    return one.num_columns == other.num_columns and all(
        len(left) == len(right) and all(map(_same, left.to_pylist(), right.to_pylist()))
        for left, right in zip(_columns(one), _columns(other), strict=True)
    )


def _same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-5)
    return left == right


def _columns(table: pa.Table) -> list[pa.ChunkedArray]:
    return [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in table.columns]


def peak_mib(root: Path, name: str) -> float:
    """Most memory that a process held which asked this once through the views."""
    code = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "sys.path.insert(0, str(Path(sys.argv[1])))\n"
        "import _analytics_queries as part\n"
        "root, name = Path(sys.argv[2]), sys.argv[3]\n"
        "if name == 'report': part.report(root, part.kpis.period('8d', None, datetime.now(UTC)))\n"
        "else: part.views(root).ask(name)\n"
        # Not `ru_maxrss`: that of the parent is handed on to its children.
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(int(status['VmHWM'].split()[0]) / 1024)"
    )
    here = str(Path(__file__).resolve().parent)
    done = subprocess.run(
        [sys.executable, "-c", code, here, str(root), name], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def run(events: int = 10_000_000, rounds: int = 5, folder: Path | None = None) -> dict[str, Any]:
    """Everything, as numbers. `folder`: where the log is made, and left; else it is temporary."""
    with tempfile.TemporaryDirectory(prefix="rayflow-analytics-") as temporary:
        root = (folder or Path(temporary)) / "events"
        if not root.exists():
            make_log(root, events)
        with open_log(root) as log:
            facts = log.query("SELECT count(*) AS events, arg_min(run_id, ts) AS run_id FROM events").to_pylist()[0]
        (root.parent / "one_run").write_text(facts["run_id"])
        queries = list(compare(root, rounds))
        for row in queries:
            row["peak_mib"] = round(peak_mib(root, row["query"]), 1)
        sizes = [path.stat().st_size for path in root.glob("date=*/*.parquet")]
    return {
        "events": facts["events"],
        "files": len(sizes),
        "mib": round(sum(sizes) / 2**20, 1),
        "queries": queries,
        "ratio": round(sum(row["view_ms"] for row in queries) / sum(row["hand_ms"] for row in queries), 3),
        "cpu_ratio": round(sum(row["view_cpu_ms"] for row in queries) / sum(row["hand_cpu_ms"] for row in queries), 3),
        "peak_mib": max(row["peak_mib"] for row in queries),
    }


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000), indent=2))
