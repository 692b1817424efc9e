from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from log_samples import NOON_US, SOURCE, damage_column

from rayflow.analytics.database import open_log
from rayflow.analytics.files import SEGMENTS_GLOB
from rayflow.analytics.keeping import clear_away
from rayflow.analytics.log import SegmentLog
from rayflow.analytics.merging import FAN_IN, merge_small
from rayflow.analytics.rolling import roll_all
from rayflow.analytics.schema import SCHEMA
from rayflow.analytics.segments import SegmentWriter
from rayflow.errors import Cancelled, NotFound, StorageError, ValidationError
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch

DAY_US = 86_400_000_000
WriteNumbered = Callable[[range], None]
VIEWS = ("events", "runs", "steps", "model_calls", "turns", "sessions", "feedback", "alerts", "batches")
QUERIES_DOC = (Path(__file__).parents[3] / "docs" / "queries.md").read_text()


def columns(root: Path, view: str) -> dict[str, str]:
    with open_log(root) as log:
        table = log.query(f"SELECT column_name, column_type FROM (DESCRIBE {view})")
    return dict(zip(*table.to_pydict().values(), strict=True))


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_log_has_the_columns_of_a_full_one(root: Path, writer: SegmentWriter, view: str) -> None:
    empty = columns(root, view)
    assert rows(root, f"FROM {view}") == []
    alert = {"metric": "error_rate", "threshold": 0.05, "direction": "above", "window_s": 60}
    writer.write(
        [
            Event("run.started", NOON_US, run_id="run_1"),
            Event("turn.committed", NOON_US, session_id="s"),
            Event("agent.finished", NOON_US, run_id="run_1", agent="a", model="m"),
            Event("feedback.given", NOON_US, run_id="run_1", score=1.0),
            Event("alert.raised", NOON_US, score=0.5, data=alert),
            Event("batch.started", NOON_US, job_id="job"),
        ]
    )
    assert columns(root, view) == empty
    assert len(rows(root, f"FROM {view}")) >= 1


def rows(root: Path, sql: str) -> list[dict[str, object]]:
    with open_log(root) as log:
        found: list[dict[str, object]] = log.query(sql).to_pylist()
    return found


def test_the_view_events_has_every_column_of_the_schema(root: Path, writer: SegmentWriter) -> None:
    assert list(columns(root, "events")) == ["ts", "date", *(name for name in SCHEMA.names if name != "ts")]


@pytest.mark.parametrize("view", VIEWS[1:])
def test_the_documented_columns_are_those_of_the_view(root: Path, writer: SegmentWriter, view: str) -> None:
    section = QUERIES_DOC.split(f"### {view}\n")[1].split("\n#")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| ([\w\[\]]+) \|", section, re.MULTILINE))
    shown = {
        name: kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for name, kind in columns(root, view).items()
    }
    assert documented == shown


def a_run(number: int, ended_us: int, **fields: Any) -> list[Event]:
    """The events of a run of 250 ms."""
    about: dict[str, Any] = {"run_id": f"run_{number}", "workflow": "support", "session_id": "s", "tenant": "t"}
    times = {"duration_ms": 250.0, "ttft_ms": 40.0, "prompt_tokens": 30, "completion_tokens": 12, "cost_usd": 0.5}
    routed = {"strategy": "keyword", "confidence": 0.8}
    return [
        Event("run.started", ended_us - 250_000, **about),
        Event("run.routed", ended_us - 249_000, **about, **routed, data={"agents": ["billing"]}),
        Event("run.finished", ended_us, **about, **{**routed, **times, "status": "ok", **fields}),
    ]


def test_a_finished_run_is_one_row_with_the_facts_of_its_end(root: Path, writer: SegmentWriter) -> None:
    facts = {"agents": ["billing", "tech"], "cached": True}
    about = {"user_id": "u", "channel": "batch", "priority": "batch", "job_id": "job", "item_id": "7", "trace_id": "4b"}
    writer.write(a_run(1, NOON_US, data=facts, **about))
    (run,) = rows(root, "SELECT * REPLACE (epoch_us(started) AS started, epoch_us(ended) AS ended) FROM runs")
    assert run == {
        "run_id": "run_1",
        "workflow": "support",
        "started": NOON_US - 250_000,
        "ended": NOON_US,
        "status": "ok",
        "error": None,
        "error_message": None,
        "duration_ms": 250.0,
        "ttft_ms": 40.0,
        "prompt_tokens": 30,
        "cached_tokens": None,
        "completion_tokens": 12,
        "reasoning_tokens": None,
        "cost_usd": 0.5,
        "strategy": "keyword",
        "confidence": 0.8,
        "session_id": "s",
        "tenant": "t",
        "date": date(2025, 11, 21),
        **facts,
        **about,
    }


def test_a_run_that_never_finished_is_shown_as_unfinished_with_what_is_known(root: Path, writer: SegmentWriter) -> None:
    started, routed, _ = a_run(1, NOON_US)
    writer.write([started, routed, *a_run(2, NOON_US)])
    (run,) = rows(root, "SELECT run_id, status, ended, duration_ms, agents, tenant FROM runs WHERE ended IS NULL")
    assert run == {
        "run_id": "run_1",
        "status": "unfinished",
        "ended": None,
        "duration_ms": None,
        "agents": ["billing"],
        "tenant": "t",
    }
    assert rows(root, "SELECT count(*) AS n FROM runs") == [{"n": 2}]


def test_a_failed_run_tells_its_error(root: Path, writer: SegmentWriter) -> None:
    failed = {"status": "error", "error": "model-timeout", "error_message": "late", "data": {"agents": "not a list"}}
    writer.write(a_run(1, NOON_US, **failed))
    assert rows(root, "SELECT status, error, error_message, agents FROM runs") == [
        {"status": "error", "error": "model-timeout", "error_message": "late", "agents": []}
    ]


def test_a_run_that_was_asked_for_again_is_one_row(root: Path, writer: SegmentWriter) -> None:
    again = [Event("run.started", NOON_US + 9, run_id="run_1"), Event("run.repeated", NOON_US + 10, run_id="run_1")]
    writer.write([*a_run(1, NOON_US), *again])
    assert rows(root, "SELECT run_id, duration_ms FROM runs") == [{"run_id": "run_1", "duration_ms": 250.0}]


def test_turns_are_the_committed_ones(root: Path, writer: SegmentWriter) -> None:
    facts = {"role": "assistant", "turn": 2, "chars": 40}
    about = {"session_id": "s", "run_id": "run_1", "agent": "billing", "tenant": "t"}
    writer.write(
        [
            Event("turn.committed", NOON_US, **about, data={**facts, "partial": True}),
            Event("session.created", NOON_US, session_id="s"),
        ]
    )
    (turn,) = rows(root, "SELECT * EXCLUDE (ts, date, user_id), epoch_us(ts) AS us FROM turns")
    assert turn == {**about, "us": NOON_US, "partial": True, **facts}


def test_a_step_is_the_end_of_a_part_or_the_last_start_of_one_that_goes_on(root: Path, writer: SegmentWriter) -> None:
    def part(kind: str, us: int, agent: str, **fields: Any) -> Event:
        return Event(kind, NOON_US + us, run_id="run_1", agent=agent, seq=us, **fields)

    writer.write(
        [
            part("agent.started", 1, "done", attempt=1),
            part("agent.retried", 2, "done", attempt=2),
            part("agent.started", 3, "done", attempt=2),
            part("agent.finished", 9000, "done", attempt=2, duration_ms=5.0, status="ok", model="m", cost_usd=0.1),
            part("agent.started", 4, "weak", attempt=1),
            part("agent.fallback", 5, "weak", data={"agent": "strong"}),
            part("agent.started", 6, "strong", attempt=1, replica="agent/strong/0"),
            part("agent.started", 7, "strong", attempt=2, replica="agent/strong/1"),
        ]
    )
    steps = rows(root, "SELECT agent, status, epoch_us(started) AS us, attempt, replica FROM steps ORDER BY agent")
    assert steps == [
        {"agent": "done", "status": "ok", "us": NOON_US + 4000, "attempt": 2, "replica": None},
        {"agent": "strong", "status": "unfinished", "us": NOON_US + 7, "attempt": 2, "replica": "agent/strong/1"},
    ]


def test_every_call_of_a_model_is_a_row_whatever_told_of_it(root: Path, writer: SegmentWriter) -> None:
    writer.write(
        [
            Event("agent.finished", NOON_US, agent="a", model="m", status="ok", cost_usd=0.25),
            Event("agent.finished", NOON_US, agent="never called", status="error"),
            Event("model.finished", NOON_US, agent="a", model="m", status="error"),
            Event("model.finished", NOON_US, model="j", status="ok", data={"purpose": "judge"}),
        ]
    )
    assert rows(root, "SELECT agent, model, purpose, status FROM model_calls ORDER BY model, status") == [
        {"agent": None, "model": "j", "purpose": "judge", "status": "ok"},
        {"agent": "a", "model": "m", "purpose": "answer", "status": "error"},
        {"agent": "a", "model": "m", "purpose": "answer", "status": "ok"},
    ]


def test_a_session_is_one_row_with_its_sums(root: Path, writer: SegmentWriter) -> None:
    turn = Event("turn.committed", NOON_US, session_id="s", tenant="t")
    opinions = [Event("feedback.given", NOON_US + n, session_id="s", tenant="t", score=n - 1.0) for n in (0, 2)]
    other = [Event("turn.committed", NOON_US, session_id="s", tenant="somebody else's")]
    failed = a_run(2, NOON_US, status="error", cost_usd=None)
    writer.write([turn, turn, *opinions, *other, *a_run(1, NOON_US), *failed])
    (session,) = rows(root, "SELECT * EXCLUDE (started, last_active, deleted) FROM sessions WHERE tenant = 't'")
    assert session == {
        "session_id": "s",
        "tenant": "t",
        "user_id": None,
        "turns": 2,
        "runs": 2,
        "errors": 1,
        "duration_ms": 500.0,
        "prompt_tokens": 60,
        "completion_tokens": 24,
        "cost_usd": 0.5,
        "score": 0.0,
    }


def test_an_alert_lasts_until_the_next_clearing_of_the_same_rule(root: Path, writer: SegmentWriter) -> None:
    def alert(kind: str, us: int, metric: str) -> Event:
        facts = {"metric": metric, "threshold": 5000, "direction": "above", "window_s": 60}
        return Event(kind, NOON_US + us, score=float(us), data=facts)

    told = [("alert.raised", 1), ("alert.cleared", 2), ("alert.raised", 3), ("alert.cleared", 4), ("alert.raised", 5)]
    writer.write([*(alert(kind, us, "response_time") for kind, us in told), alert("alert.cleared", 9, "error_rate")])
    episodes = rows(
        root,
        "SELECT value, epoch_us(cleared) AS us, metric, direction, threshold, window_s FROM alerts ORDER BY raised",
    )
    rule = {"metric": "response_time", "direction": "above", "threshold": 5000.0, "window_s": 60.0}
    assert episodes == [
        {"value": 1.0, "us": NOON_US + 2, **rule},
        {"value": 3.0, "us": NOON_US + 4, **rule},
        {"value": 5.0, "us": None, **rule},
    ]


def test_a_batch_is_one_row_with_what_it_has_used_so_far(root: Path, writer: SegmentWriter) -> None:
    begun = Event("batch.started", NOON_US, job_id="job", data={"input": "in.jsonl", "items": 3})
    writer.write([begun, *a_run(1, NOON_US, job_id="job"), Event("run.finished", NOON_US, job_id="of another log")])
    ask = "SELECT job_id, status, input, items, ok, runs, prompt_tokens, paused_by FROM batches"
    known = {"job_id": "job", "input": "in.jsonl", "items": 3, "runs": 1, "prompt_tokens": 30}
    assert rows(root, ask) == [{**known, "status": "running", "ok": None, "paused_by": None}]
    writer.write([Event("batch.paused", NOON_US + 1, job_id="job", error="quota-exhausted")])
    assert rows(root, ask) == [{**known, "status": "paused", "ok": None, "paused_by": "quota-exhausted"}]
    writer.write([Event("batch.resumed", NOON_US + 2, job_id="job")])
    assert rows(root, ask)[0]["status"] == "running"
    writer.write([Event("batch.finished", NOON_US + 3, job_id="job", status="ok", data={"ok": 3, "failed": 0})])
    assert rows(root, ask) == [{**known, "status": "ok", "ok": 3, "paused_by": "quota-exhausted"}]


@pytest.mark.parametrize("view", ["events", "runs", "steps", "model_calls", "turns", "feedback", "alerts"])
def test_a_filter_on_the_date_leaves_out_files_through_the_view(root: Path, writer: SegmentWriter, view: str) -> None:
    for day in range(4):
        writer.write([*a_run(day, NOON_US + day * DAY_US)])
    plan = "\n".join(rows(root, f"EXPLAIN FROM {view} WHERE date = DATE '2025-11-22'")[0].values())
    assert "Scanning Files: 1/4" in plan


def test_a_run_id_tells_when_it_began_and_files_of_before_it_are_not_opened(root: Path, writer: SegmentWriter) -> None:
    began_us = NOON_US + 2 * DAY_US
    run_id = f"run_{began_us // 1000:012x}{'0' * 32}"
    for day in range(4):
        writer.write([*a_run(day, NOON_US + day * DAY_US)])
    asked = f"SELECT epoch_us(run_began(id)) AS us FROM (VALUES ('{run_id}'), ('run_7'), ('{run_id}0'), (NULL)) t(id)"
    assert [row["us"] for row in rows(root, asked)] == [began_us, 0, 0, 0]
    with open_log(root) as log:
        plan = log.query("EXPLAIN FROM events WHERE date >= CAST(run_began($id) AS DATE)", {"id": run_id}).to_pylist()
    assert "Scanning Files: 2/4" in str(plan)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) AS n FROM RUNS",
        'SELECT count(*) AS n FROM memory.main."runs"',
        "SELECT count(*) AS n FROM query_table('ru' || 'ns')",
        "SELECT count(*) AS n FROM information_schema.tables WHERE table_name = concat('ru', 'ns')",
        "CREATE TABLE mine AS FROM runs; SELECT count(*) AS n FROM mine",
    ],
)
def test_a_view_is_there_however_it_is_named(root: Path, writer: SegmentWriter, sql: str) -> None:
    writer.write(a_run(1, NOON_US))
    assert rows(root, sql) == [{"n": 1}]


def test_a_wrong_name_is_refused_with_the_views_that_are_near(root: Path, writer: SegmentWriter) -> None:
    writer.write(a_run(1, NOON_US))
    with open_log(root) as log, pytest.raises(ValidationError) as refused:
        log.query("FROM model_call")
    assert 'Did you mean "model_calls"' in refused.value.message


@pytest.mark.parametrize("view", ["runs", "steps"])
def test_a_question_about_what_has_ended_joins_nothing(root: Path, writer: SegmentWriter, view: str) -> None:
    writer.write(a_run(1, NOON_US))
    asked = f"EXPLAIN SELECT count(*), sum(cost_usd) FROM {view} WHERE ended >= ago('7 days')"
    plan = str(rows(root, asked))
    assert "JOIN" not in plan.upper()
    assert "data" not in plan


def test_rows_of_open_segments_and_of_parquet_are_one_set(root: Path, writer: SegmentWriter) -> None:
    writer.write(a_run(1, NOON_US))
    log = SegmentLog(root, SOURCE, roll_bytes=1 << 20, roll_s=60.0)
    events = a_run(2, NOON_US + DAY_US, data={"agents": ["tech"]})
    log.append([EventBatch("router-1", 0, len(events), encode_lines(events))])
    ask = "SELECT run_id, agents, CAST(date AS VARCHAR) AS day FROM runs ORDER BY run_id"
    assert rows(root, ask) == [
        {"run_id": "run_1", "agents": [], "day": "2025-11-21"},
        {"run_id": "run_2", "agents": ["tech"], "day": "2025-11-22"},
    ]
    log.close()


def test_a_batch_that_was_sent_twice_counts_once_before_and_after_it_is_rolled(root: Path) -> None:
    events = a_run(1, NOON_US)
    batch = EventBatch("router-1", 0, len(events), encode_lines(events))
    log = SegmentLog(root, SOURCE, roll_bytes=1 << 20, roll_s=60.0)
    log.append([batch])
    log.close()
    assert SegmentLog(root, SOURCE, 1 << 20, 60.0).recover() == {"router-1": len(events)}, "so it is not taken again"
    roll_all(root, SOURCE)
    ask = "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events"
    assert rows(root, ask) == [{"n": len(events), "ids": len(events)}]


def test_an_open_log_shows_what_came_later_when_it_is_refreshed(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    with open_log(root) as log:
        log.query("CREATE TABLE mine AS SELECT 7 AS n")
        write_numbered(range(1, 3))
        assert log.query("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 1}]
        log.refresh()
        assert log.query("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 3}]
        assert log.query("FROM mine").to_pylist() == [{"n": 7}]


def test_a_query_can_be_interrupted_from_another_thread(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    with open_log(root) as log, ThreadPoolExecutor(1) as pool:
        endless = pool.submit(log.query, "SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE hash(i) % 7 = 3")
        while not endless.done():
            log.interrupt()
            wait([endless], 0.05)
        with pytest.raises(Cancelled):
            endless.result()
        assert log.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_what_does_not_fit_into_memory_is_spilled_and_nothing_stays(
    root: Path, write_numbered: WriteNumbered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    write_numbered(range(1))
    with open_log(root, memory_bytes=64 << 20) as log:
        sql = "SELECT count(*) AS n FROM (SELECT DISTINCT md5(CAST(i AS VARCHAR)) FROM range(1_500_000) t(i))"
        assert log.query(sql).to_pylist() == [{"n": 1_500_000}]
        assert list(tmp_path.glob("rayflow-query-*"))
    assert not list(tmp_path.glob("rayflow-query-*"))


def test_timestamps_are_utc_whatever_the_zone_of_the_machine(
    root: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    writer.write([Event("run.started", NOON_US)])
    with open_log(root) as log:
        answer = log.query("SELECT ts, CAST(ts AS VARCHAR) AS text, date = CAST(ts AS DATE) AS same FROM events")
    assert answer.schema.field("ts").type == pa.timestamp("us", tz="UTC")
    assert answer.drop("ts").to_pylist() == [{"text": "2025-11-21 12:00:00+00", "same": True}]


def test_values_are_bound_by_name_or_by_position(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(3))
    with open_log(root) as log:
        assert log.query("SELECT seq FROM events WHERE seq > $least", {"least": 1}).to_pylist() == [{"seq": 2}]
        assert log.query("SELECT seq FROM events WHERE seq < ?", [1]).to_pylist() == [{"seq": 0}]


@pytest.mark.parametrize(
    ("sql", "line", "message"),
    [
        ("SELECT 1,\n  agnt FROM events", 2, '"agent"'),
        ("SELECT *\nFROM evnts", 2, 'Did you mean "events"'),
        ("SELEC 1", 1, "syntax error"),
        ("SELECT CAST('x' AS INTEGER)", 1, "Could not convert"),
        ("SELECT $missing", None, "missing"),
        ("FROM 'nowhere.csv'", None, "nowhere.csv"),
        ("  -- nothing", None, "empty"),
    ],
)
def test_wrong_sql_is_refused_with_the_place(
    root: Path, writer: SegmentWriter, sql: str, line: int | None, message: str
) -> None:
    with open_log(root) as log, pytest.raises(ValidationError) as refused:
        log.query(sql)
    assert message in refused.value.message
    assert refused.value.details.get("line") == line
    assert line is None or f"LINE {line}:" in refused.value.message


def test_a_place_without_a_log_is_not_found(root: Path) -> None:
    with pytest.raises(NotFound, match="--state"):
        open_log(root)


def test_a_torn_file_is_named_and_the_other_files_answer(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    (torn,) = root.glob(SEGMENTS_GLOB)
    torn.write_bytes(torn.read_bytes()[:-9])
    write_numbered(range(1, 3))
    with open_log(root) as log:
        assert log.query("SELECT seq FROM events ORDER BY seq")["seq"].to_pylist() == [1, 2]
        assert list(log.unreadable) == [torn]


def test_a_flipped_bit_is_left_out_of_a_verified_log(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    (damaged,) = root.glob(SEGMENTS_GLOB)
    write_numbered(range(1, 3))
    damage_column(damaged, "seq")
    with open_log(root, verify=True) as log:
        assert log.query("SELECT sum(seq) AS total FROM events").to_pylist() == [{"total": 3}]
        assert list(log.unreadable) == [damaged]


def test_damage_that_comes_after_a_log_was_opened_is_named_and_the_other_files_answer(
    root: Path, writer: SegmentWriter
) -> None:
    writer.write([Event("run.started", NOON_US + i, run_id=f"run_{i * 7919:x}") for i in range(5000)])
    (damaged,) = root.glob(SEGMENTS_GLOB)
    writer.write([Event("run.started", NOON_US, run_id="run_0")])
    with open_log(root) as log:
        assert log.unreadable == {}
        damage_column(damaged, "run_id", size=4096)
        assert log.query("SELECT max(run_id) AS last FROM events").to_pylist() == [{"last": "run_0"}]
        assert list(log.unreadable) == [damaged]


def test_segments_merged_away_under_an_open_log_are_found_again(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    with open_log(root) as log:
        merge_small(root, SOURCE)
        clear_away(root, grace_s=-1)
        assert log.query("SELECT count(*) AS n FROM events").to_pylist() == [{"n": FAN_IN}]
        assert log.unreadable == {}


def test_a_file_that_the_user_names_and_that_is_damaged_is_a_storage_error(
    root: Path, write_numbered: WriteNumbered
) -> None:
    write_numbered(range(1))
    (torn,) = root.glob(SEGMENTS_GLOB)
    torn.write_bytes(b"PAR1")
    with open_log(root) as log, pytest.raises(StorageError):
        log.query(f"FROM '{torn}'")


def test_a_folder_with_special_characters_is_just_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "it's [a] *log?" / "events"
    SegmentWriter(root, SOURCE).write([Event("run.started", NOON_US)])
    assert len(rows(root, "FROM events")) == 1


def test_threads_may_ask_one_log_at_the_same_time(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(3))
    with open_log(root) as log, ThreadPoolExecutor(4) as pool:
        answers = pool.map(
            lambda n: log.query("SELECT sum(seq) + $n AS s FROM events", {"n": n})["s"][0].as_py(), range(20)
        )
        assert list(answers) == [3 + n for n in range(20)]
