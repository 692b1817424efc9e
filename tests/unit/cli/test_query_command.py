from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.analytics.named import named_queries
from rayflow.analytics.segments import SEGMENTS_GLOB, SegmentWriter
from rayflow.cli import query
from rayflow.cli.exits import Exit, report
from rayflow.events import Event

app = typer.Typer()
query.register(app)


@app.callback()
def root_command() -> None:
    """With a callback, Typer keeps `query` a command of its own."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder whose log holds three finished parts, written in three segments."""
    writer = SegmentWriter(tmp_path / "events", "eventlog/0")
    for number, agent in enumerate(("billing", "tech", "tech"), start=1):
        writer.write([Event("agent.finished", number * 1_000_000, agent=agent, seq=number, duration_ms=number * 1.5)])
    return tmp_path


def ask(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with errors reported as `rayflow` does."""
    result = CliRunner().invoke(app, ["query", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        return report(result.exception), result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_sql_is_answered_as_a_plain_table_where_nobody_watches(state: Path) -> None:
    sql = "SELECT agent, count(*) AS parts FROM events GROUP BY agent ORDER BY agent"
    assert ask(sql, "--state", state) == (0, "agent    parts\nbilling      1\ntech         2\n", "")


def test_json_is_an_array_of_objects(state: Path) -> None:
    code, out, err = ask("SELECT ts, agent FROM events ORDER BY ts LIMIT 1", "--state", state, "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [{"ts": "1970-01-01T00:00:01Z", "agent": "billing"}]


def test_csv_has_a_header(state: Path) -> None:
    _, out, _ = ask("SELECT seq, agent FROM events ORDER BY seq", "--state", state, "--format", "csv")
    assert list(csv.reader(io.StringIO(out))) == [["seq", "agent"], ["1", "billing"], ["2", "tech"], ["3", "tech"]]


def test_a_named_query_takes_parameters(state: Path) -> None:
    code, out, _ = ask("--name", "latency_by_agent", "--param", "since=100 years", "--state", state, "--format", "json")
    assert code == 0
    assert [(row["agent"], row["requests"]) for row in json.loads(out)] == [("tech", 2), ("billing", 1)]


def test_sql_takes_parameters_too(state: Path) -> None:
    _, out, _ = ask("SELECT seq FROM events WHERE agent = $who", "--param", "who=billing", "--state", state)
    assert out.split() == ["seq", "1"]


def test_limit_cuts_rows_and_says_so(state: Path) -> None:
    code, out, err = ask("SELECT seq FROM events ORDER BY seq", "--state", state, "--limit", "2")
    assert (code, out.split()) == (0, ["seq", "1", "2"])
    assert "2 of 3 rows" in err


def test_the_folder_of_the_log_can_be_named_itself(state: Path) -> None:
    _, out, _ = ask("SELECT count(*) AS n FROM events", "--events", state / "events")
    assert out.split() == ["n", "3"]


def test_list_shows_all_named_queries_and_needs_no_log() -> None:
    code, out, _ = ask("--list", "--format", "json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == list(named_queries())


def test_wrong_sql_exits_4_and_shows_the_place(state: Path) -> None:
    code, out, err = ask("SELECT agnt FROM events", "--state", state)
    assert (code, out) == (Exit.INPUT, "")
    assert "LINE 1: SELECT agnt FROM events" in err


def test_an_unknown_name_exits_4_and_names_the_nearest(state: Path) -> None:
    code, _, err = ask("--name", "latency_by_agents", "--state", state)
    assert code == Exit.INPUT
    assert "did you mean 'latency_by_agent'?" in err


def test_a_state_folder_without_a_log_exits_4(tmp_path: Path) -> None:
    code, _, err = ask("SELECT 1", "--state", tmp_path)
    assert code == Exit.INPUT
    assert "no event log" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["SELECT 1", "--list"],
        ["SELECT 1", "--name", "slowest_runs"],
        ["SELECT 1", "--param", "x"],
        ["SELECT 1", "--format", "xml"],
        ["SELECT 1", "--limit", "0"],
    ],
)
def test_wrong_usage_exits_2(state: Path, arguments: list[str]) -> None:
    code, out, _ = ask(*arguments, "--state", state)
    assert (code, out) == (Exit.USAGE, "")


def test_a_damaged_file_is_named_after_the_answer_and_exits_5(state: Path) -> None:
    torn = min(state.glob(f"events/{SEGMENTS_GLOB}"))
    torn.write_bytes(b"")
    code, out, err = ask("SELECT count(*) AS n FROM events", "--state", state)
    assert (code, out.split()) == (Exit.PARTIAL, ["n", "2"])
    assert str(torn) in err


def test_the_command_loads_no_database_before_it_runs() -> None:
    check = "import sys, rayflow.cli.query; print(*{'duckdb', 'pyarrow', 'rayflow.analytics'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
