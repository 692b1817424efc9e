from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from rayflow.analytics.files import SEGMENTS_GLOB
from rayflow.analytics.named import named_queries
from rayflow.analytics.segments import SegmentWriter
from rayflow.cli import query
from rayflow.cli.exits import Exit, report
from rayflow.events import Event

QUERIES_DOC = (Path(__file__).parents[3] / "docs" / "queries.md").read_text()
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


def ask(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with errors reported as `rayflow` does."""
    result = CliRunner().invoke(app, ["query", *map(str, arguments)], input=stdin)
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
        ["SELECT 1", "--shell"],
        ["--shell", "--out", "x.json"],
        ["SELECT 1", "--watch", "0"],
        ["--watch", "1", "--list"],
        ["SELECT 1", "--watch", "1", "--out", "x.json"],
        ["SELECT 1", "--watch", "1", "--format", "parquet"],
        ["SELECT 1", "--out", "x.json", "--format", "table"],
    ],
)
def test_wrong_usage_exits_2(state: Path, arguments: list[str]) -> None:
    code, out, _ = ask(*arguments, "--state", state)
    assert (code, out) == (Exit.USAGE, "")


def test_sql_is_read_from_a_pipe(state: Path) -> None:
    assert ask("--state", state, stdin="SELECT count(*) AS n\nFROM steps\n") == (0, "n\n3\n", "")


def test_the_shell_reads_statements_and_commands_from_a_pipe(state: Path) -> None:
    typed = "SELECT count(*) AS n FROM steps;\nSELECT nothing;\n.format json\nSELECT 1 AS one;\n"
    code, out, err = ask("--shell", "--state", state, stdin=typed)
    assert (code, out) == (0, 'n\n3\n[{"one":1}]\n')
    assert "LINE 1: SELECT nothing" in err


def test_own_queries_are_found_in_the_state_folder_and_in_others(state: Path, tmp_path: Path) -> None:
    for folder, name in ((state / "queries", "mine"), (tmp_path / "more", "ours")):
        folder.mkdir()
        (folder / f"{name}.sql").write_text(f"-- name: {name}\n-- description: d\n-- param: who\nSELECT $who AS who")
    more = ("--state", state, "--queries", tmp_path / "more")
    for name in ("mine", "ours"):
        assert ask("--name", name, "--param", "who=me", *more) == (0, "who\nme\n", "")
    _, out, _ = ask("--list", "--format", "json", *more)
    assert {"mine", "ours"} < {row["name"] for row in json.loads(out)}


def test_a_broken_header_exits_4_and_names_file_and_line(state: Path) -> None:
    (state / "queries").mkdir()
    (state / "queries" / "mine.sql").write_text("-- name: mine\n-- descripton: d\nSELECT 1")
    code, _, err = ask("SELECT 1", "--state", state)
    assert code == Exit.INPUT
    assert "mine.sql, line 2: " in err


@pytest.mark.parametrize("name", ["answer.parquet", "answer.arrow", "answer.csv", "answer.jsonl"])
def test_an_answer_is_written_to_a_file(state: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    code, out, err = ask("SELECT seq, agent FROM events", "--state", state, "--out", path)
    assert (code, out, err) == (0, "", f"note: 3 rows are in {path}\n")
    read = f"read_csv('{path}')" if path.suffix == ".csv" else f"'{path}'"
    if path.suffix != ".arrow":
        assert ask(f"SELECT sum(seq) AS n FROM {read}", "--state", state)[1].split() == ["n", "6"]


def test_a_file_that_cannot_be_written_exits_7(state: Path, tmp_path: Path) -> None:
    code, _, err = ask("SELECT 1", "--state", state, "--out", tmp_path / "nowhere" / "x.csv")
    assert code == Exit.STORAGE
    assert "nowhere" in err


@pytest.mark.parametrize(("encoding", "read"), [("arrow", pa.ipc.open_stream), ("parquet", pq.ParquetFile)])
def test_pipes_get_what_other_programs_read(state: Path, encoding: str, read: Callable[[io.BytesIO], Any]) -> None:
    sql = "SELECT seq FROM events ORDER BY seq"
    result = CliRunner().invoke(app, ["query", sql, "--state", str(state), "--format", encoding])
    reader = read(io.BytesIO(result.stdout_bytes))
    table = reader.read() if encoding == "parquet" else reader.read_all()
    assert table.to_pylist() == [{"seq": 1}, {"seq": 2}, {"seq": 3}]


def rayflow(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "rayflow", "query", *map(str, arguments)]


def on_a_terminal(*arguments: str | Path, typed: bytes = b"") -> tuple[int, str, str]:
    """As `ask`, where stdin and stdout are a terminal of 40 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(arguments[-1])}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(
        rayflow(*arguments), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(theirs)
        os.write(ours, typed)
        shown = b""
        while piece := _read(ours):
            shown += piece
        assert process.stderr is not None
        err = process.stderr.read().decode()
    os.close(ours)
    return process.returncode, shown.decode(), err


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: nobody holds the other end any more
        return b""


def test_a_terminal_is_shown_what_fits_and_told_what_does_not(state: Path) -> None:
    sql = "SELECT i, repeat('x', 100) AS wide, chr(27) || '[2J' AS hostile FROM range(1100) t(i)"
    code, out, err = on_a_terminal(sql, "--state", state)
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 1001
    assert max(map(len, lines)) <= 40
    assert "\x1b" not in out
    assert r"\x1b[2J" in lines[1]
    assert "note: 1000 cells are cut" in err
    assert "note: 1000 of 1100 rows" in err


def test_a_terminal_gets_nothing_binary(state: Path) -> None:
    code, out, err = on_a_terminal("SELECT 1", "--format", "parquet", "--state", state)
    assert (code, out) == (Exit.USAGE, "")
    assert "--out" in err


def test_without_sql_a_terminal_gets_the_shell(state: Path) -> None:
    code, out, err = on_a_terminal("--state", state, typed=b"SELECT 6 * 7 AS answer;\r.quit\r")
    assert (code, err) == (0, "")
    assert "rayflow>" in out
    assert "42" in out


def test_watch_sees_what_comes_and_ends_with_130_at_ctrl_c(state: Path) -> None:
    watching = rayflow("SELECT count(*) AS n FROM steps", "--watch", "0.1", "--format", "jsonl", "--state", state)
    with subprocess.Popen(watching, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"n": 3}
        SegmentWriter(state / "events", "eventlog/0").write([Event("agent.finished", 4_000_000)])
        while json.loads(process.stdout.readline()) == {"n": 3}:
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "")


def test_ctrl_c_breaks_off_a_long_query(state: Path) -> None:
    sql = "COPY (SELECT 1) TO '{}'; SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE hash(i) % 7 = 3"
    begun = state / "begun.csv"
    with subprocess.Popen(rayflow(sql.format(begun), "--state", state), stderr=subprocess.PIPE) as process:
        while not begun.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130


def test_a_damaged_file_is_named_after_the_answer_and_exits_5(state: Path) -> None:
    torn = min(state.glob(f"events/{SEGMENTS_GLOB}"))
    torn.write_bytes(b"")
    code, out, err = ask("SELECT count(*) AS n FROM events", "--state", state)
    assert (code, out.split()) == (Exit.PARTIAL, ["n", "2"])
    assert str(torn) in err


def test_the_documented_options_are_those_of_the_command() -> None:
    table = QUERIES_DOC.split("| option | meaning |\n")[1].split("\n\n")[0]
    documented = set(re.findall(r"^\| `(--\w+)", table, re.MULTILINE))
    params = cast(TyperGroup, get_command(app)).commands["query"].params
    assert documented == {param.opts[0] for param in params if isinstance(param, TyperOption)} - {"--help"}


def test_the_command_loads_no_database_before_it_runs() -> None:
    check = "import sys, rayflow.cli.query; print(*{'duckdb', 'pyarrow', 'rayflow.analytics'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
