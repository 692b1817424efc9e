from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from log_samples import NOON_US, SOURCE, damage_column

from rayflow.analytics.database import open_log
from rayflow.analytics.merging import FAN_IN, merge_small
from rayflow.analytics.schema import SCHEMA
from rayflow.analytics.segments import SEGMENTS_GLOB, SegmentWriter
from rayflow.errors import NotFound, StorageError, ValidationError
from rayflow.events import Event

WriteNumbered = Callable[[range], None]
VIEWS = ("events", "runs", "turns")
QUERIES_DOC = (Path(__file__).parents[3] / "docs" / "queries.md").read_text()


def columns(root: Path, view: str) -> dict[str, str]:
    with open_log(root) as log:
        table = log.query(f"SELECT column_name, column_type FROM (DESCRIBE {view})")
    return dict(zip(*table.to_pydict().values(), strict=True))


def rows(root: Path, sql: str) -> list[dict[str, object]]:
    with open_log(root) as log:
        found: list[dict[str, object]] = log.query(sql).to_pylist()
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_log_has_the_columns_of_a_full_one(root: Path, writer: SegmentWriter, view: str) -> None:
    empty = columns(root, view)
    assert rows(root, f"FROM {view}") == []
    writer.write([Event("run.started", NOON_US, run_id="run_1"), Event("turn.committed", NOON_US, session_id="s")])
    assert columns(root, view) == empty
    assert len(rows(root, f"FROM {view}")) >= 1


def test_the_view_events_has_every_column_of_the_schema(root: Path, writer: SegmentWriter) -> None:
    assert list(columns(root, "events")) == ["ts", "date", *(name for name in SCHEMA.names if name != "ts")]


@pytest.mark.parametrize("view", ["runs", "turns"])
def test_the_documented_columns_are_those_of_the_view(root: Path, writer: SegmentWriter, view: str) -> None:
    section = QUERIES_DOC.split(f"### {view}\n")[1].split("\n#")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| ([\w\[\]]+) \|", section, re.MULTILINE))
    shown = {
        name: kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for name, kind in columns(root, view).items()
    }
    assert documented == shown


def test_a_finished_run_is_one_row_with_the_facts_of_all_its_events(root: Path, writer: SegmentWriter) -> None:
    writer.write(
        [
            Event(
                "run.started",
                NOON_US,
                run_id="run_1",
                seq=1,
                workflow="support",
                session_id="s",
                tenant="t",
                user_id="u",
                channel="batch",
                job_id="job",
                item_id="7",
            ),
            Event(
                "run.routed",
                NOON_US + 1,
                run_id="run_1",
                seq=2,
                workflow="support",
                strategy="keyword",
                confidence=0.8,
                data={"agents": ["billing", "tech"], "reason": "refund"},
            ),
            Event("agent.finished", NOON_US + 2, run_id="run_1", seq=3, agent="billing", status="error", error="x"),
        ]
    )
    writer.write(
        [
            Event(
                "run.finished",
                NOON_US + 250_000,
                run_id="run_1",
                seq=9,
                workflow="support",
                status="ok",
                duration_ms=250.0,
                ttft_ms=40.0,
                prompt_tokens=30,
                completion_tokens=12,
                strategy="merge",
                confidence=0.5,
            ),
        ]
    )
    assert rows(root, "SELECT * REPLACE (epoch_us(started) AS started, epoch_us(ended) AS ended) FROM runs") == [
        {
            "run_id": "run_1",
            "workflow": "support",
            "started": NOON_US,
            "ended": NOON_US + 250_000,
            "status": "ok",
            "error": None,
            "error_message": None,
            "duration_ms": 250.0,
            "ttft_ms": 40.0,
            "prompt_tokens": 30,
            "completion_tokens": 12,
            "agents": ["billing", "tech"],
            "strategy": "keyword",
            "confidence": 0.8,
            "session_id": "s",
            "tenant": "t",
            "user_id": "u",
            "channel": "batch",
            "job_id": "job",
            "item_id": "7",
        }
    ]


def test_a_run_that_never_finished_is_shown_as_unfinished(root: Path, writer: SegmentWriter) -> None:
    writer.write([Event("run.started", NOON_US, run_id="run_1", channel="chat")])
    (run,) = rows(root, "SELECT status, ended, duration_ms, agents, channel FROM runs")
    assert run == {"status": "unfinished", "ended": None, "duration_ms": None, "agents": [], "channel": "chat"}


def test_a_failed_run_tells_its_error(root: Path, writer: SegmentWriter) -> None:
    writer.write(
        [
            Event("run.routed", NOON_US, run_id="run_1", data={"agents": "not a list"}),
            Event("run.finished", NOON_US, run_id="run_1", status="error", error="model-timeout", error_message="late"),
        ]
    )
    (run,) = rows(root, "SELECT status, error, error_message, agents FROM runs")
    assert run == {"status": "error", "error": "model-timeout", "error_message": "late", "agents": []}


def test_turns_are_the_committed_ones(root: Path, writer: SegmentWriter) -> None:
    facts = {"role": "assistant", "turn": 2, "chars": 40}
    writer.write(
        [
            Event("turn.committed", NOON_US, session_id="s", run_id="run_1", agent="billing", data=facts),
            Event("session.created", NOON_US, session_id="s"),
        ]
    )
    (turn,) = rows(root, "SELECT * EXCLUDE ts, epoch_us(ts) AS us FROM turns")
    assert turn == {"session_id": "s", "run_id": "run_1", "agent": "billing", "us": NOON_US, **facts}


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


def test_damage_that_a_query_stumbles_over_is_named_and_the_other_files_answer(
    root: Path, writer: SegmentWriter
) -> None:
    writer.write([Event("run.started", NOON_US + i, run_id=f"run_{i * 7919:x}") for i in range(5000)])
    (damaged,) = root.glob(SEGMENTS_GLOB)
    writer.write([Event("run.started", NOON_US, run_id="run_0")])
    damage_column(damaged, "run_id", size=4096)
    with open_log(root) as log:
        assert log.unreadable == {}
        assert log.query("SELECT max(run_id) AS last FROM events").to_pylist() == [{"last": "run_0"}]
        assert list(log.unreadable) == [damaged]


def test_segments_merged_away_under_an_open_log_are_found_again(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    with open_log(root) as log:
        merge_small(root, SOURCE)
        merge_small(root, SOURCE, grace_s=-1)
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
