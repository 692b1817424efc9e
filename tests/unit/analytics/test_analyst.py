"""The processes that answer questions: when they start, what they give up, how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest
from log_samples import NOON_US

from rayflow.analytics.analyst import Analyst, Limits, Question, confinement, sealed
from rayflow.analytics.analyst.confinement import Offers
from rayflow.analytics.analyst.statement import FUNCTIONS, Vocabulary, check
from rayflow.analytics.segments import SegmentWriter
from rayflow.errors import SqlNotAllowed, Unavailable
from rayflow.events import Event

SQL = Path(sealed.__file__).parents[1] / "sql"
PATIENT = Limits(time_s=60)
ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range * b.range = 3"


@pytest.fixture
def events(root: Path, writer: SegmentWriter) -> Path:
    writer.write([Event("run.finished", NOON_US + n, run_id=f"r{n}", tenant=t) for n, t in enumerate(("a", "b", ""))])
    return root


@pytest.fixture
async def analyst(events: Path) -> AsyncIterator[Analyst]:
    analyst = Analyst(events)
    yield analyst
    await analyst.close()


async def test_nothing_runs_before_the_first_question_nor_long_after_the_last(events: Path) -> None:
    analyst = Analyst(events, idle_s=0.0)
    assert analyst.pid is None
    answer = await analyst.ask(Question("SELECT count(*) AS n FROM runs", limits=PATIENT))
    assert answer.records() == [{"n": 3}]
    while analyst.pid is not None:
        await asyncio.sleep(0.01)
    await analyst.close()


async def test_a_cancelled_question_is_not_worked_on_any_more(analyst: Analyst) -> None:
    await analyst.ask(Question("SELECT 1", limits=PATIENT))
    assert analyst.pid is not None
    asking = asyncio.create_task(analyst.ask(Question(ENDLESS, limits=PATIENT)))
    while not (working := running(analyst.pid)):
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    while running(analyst.pid) & working:
        await asyncio.sleep(0.01)


async def test_one_that_forks_and_was_killed_is_started_again(analyst: Analyst) -> None:
    await analyst.ask(Question("SELECT 1", limits=PATIENT))
    killed = analyst.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert (await analyst.ask(Question("SELECT 2 AS n", limits=PATIENT))).records() == [{"n": 2}]
    assert analyst.pid != killed


async def test_questions_beyond_those_that_may_wait_are_refused_at_once(events: Path) -> None:
    analyst = Analyst(events, at_once=1)
    asking = [asyncio.create_task(analyst.ask(Question("SELECT 1", limits=PATIENT))) for _ in range(20)]
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    await analyst.close()
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert 0 < len(refused) < len(outcomes)
    assert {refusal.retry_after_s for refusal in refused} == {1.0}


async def test_our_own_questions_see_all_tenants_and_may_use_all_of_duckdb(analyst: Analyst) -> None:
    sql = "SELECT count(*) AS n, any_value(current_setting('TimeZone')) AS zone FROM runs WHERE ended >= $since"
    question = Question(sql, {"since": "2020-01-01"}, tenant="a", trusted=True, limits=PATIENT)
    assert (await analyst.ask(question)).records() == [{"n": 3, "zone": "UTC"}]


@pytest.mark.parametrize(
    "offers",
    [Offers(0, True), Offers(confinement.LANDLOCK_NEEDED - 1, True), Offers(confinement.LANDLOCK_NEEDED, False)],
)
def test_without_a_whole_sandbox_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offers: Offers
) -> None:
    from rayflow.analytics.analyst import work

    monkeypatch.setattr(confinement, "landlock_version", lambda: offers.landlock)
    monkeypatch.setattr(confinement, "leave_network", lambda: offers.network)
    with pytest.raises(Unavailable, match="sql_sandbox: best_effort"):
        work.give_up_everything(tmp_path, required=True)


def test_a_process_that_serves_loads_neither_duckdb_nor_arrow() -> None:
    code = "import sys, rayflow.api.ingress; sys.exit(repr([m for m in ('duckdb', 'pyarrow') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_every_function_that_is_allowed_is_one_of_duckdb() -> None:
    with duckdb.connect() as database:
        rows = database.execute("SELECT DISTINCT lower(function_name) FROM duckdb_functions()").fetchall()
    assert {name for (name,) in rows} >= FUNCTIONS
    assert not FUNCTIONS & {"getenv", "current_setting", "read_text", "query", "nextval", "json_serialize_plan", "glob"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT agent, count(*) FILTER (status = 'ok') AS n FROM events GROUP BY ALL ORDER BY n DESC LIMIT 10",
        "WITH a AS (FROM events), b AS (FROM a) FROM b JOIN a USING (run_id) WHERE b.ts > now() - INTERVAL 1 DAY",
        "SELECT *, row_number() OVER (PARTITION BY agent ORDER BY ts) AS r FROM events QUALIFY r = 1",
        "SELECT quantile_cont(duration_ms, 0.95), median(duration_ms), data ->> '$.reason' FROM events GROUP BY 3",
        "SELECT CASE WHEN status IN ('ok', 'error') THEN 1 ELSE 0 END, status::VARCHAR, TRY_CAST(x AS INT) FROM events",
        "SELECT time_bucket(INTERVAL 1 HOUR, ts) AS hour, count(DISTINCT user_id) FROM main.events GROUP BY ROLLUP (1)",
        "SELECT * FROM (PIVOT events ON status IN ('ok', 'error') USING count(*) GROUP BY agent)",
        "SELECT unnest([1, 2]), x FROM generate_series(1, 3) t(x) UNION ALL VALUES (1, 2)",
        "SELECT mine(1), [x * 2 for x in [1, 2]], {'a': 1}.a, list_filter([1], lambda x: x > 0)",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
        "SUMMARIZE events",
        "TABLE events",
    ],
)
def test_what_people_ask_is_allowed(sql: str) -> None:
    with duckdb.connect() as database:
        check(database, sql, Vocabulary(frozenset(("events",)), frozenset(("mine",))))


def test_a_refusal_says_what_there_is_instead() -> None:
    with duckdb.connect() as database, pytest.raises(SqlNotAllowed, match="no view 'run'; there are: events, runs"):
        check(database, "FROM run", Vocabulary(frozenset(("runs", "events")), frozenset()))


def running(parent: int) -> set[str]:
    """Processes that it has forked and that have not ended."""
    found = set()
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(pid)
    return found


@pytest.mark.parametrize("file", sorted(SQL.rglob("*/*.sql")), ids=lambda file: file.stem)
def test_our_own_questions_would_be_allowed_too(file: Path) -> None:
    """They are asked for tenants, whose questions are not trusted."""
    with duckdb.connect() as database:
        check(database, file.read_text(), sealed.KNOWN)
