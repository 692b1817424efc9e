"""The shell of `rayflow query`, driven by lines and, for its terminal, through a pipe of keys."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from rayflow.analytics.database import Log, open_log
from rayflow.analytics.named import named_queries
from rayflow.analytics.segments import SegmentWriter
from rayflow.app import asking
from rayflow.app.answers import Answers
from rayflow.app.sql_shell import COMMANDS, HELP, SqlShell, history_file, plain_reader, terminal_reader
from rayflow.app.sql_vocabulary import SqlCompleter
from rayflow.events import Event

QUERIES_DOC = (Path(__file__).parents[3] / "docs" / "queries.md").read_text()
Type = Callable[..., tuple[str, str]]
ENDLESS = "SELECT count(*) FROM range(1_000_000_000_000) t(i) WHERE hash(i) % 7 = 3;"


@pytest.fixture
def writer(tmp_path: Path) -> SegmentWriter:
    writer = SegmentWriter(tmp_path / "events", "eventlog/0")
    writer.write([Event("agent.finished", n, run_id=f"run_{n}", agent=agent) for n, agent in enumerate("ab", 1)])
    return writer


@pytest.fixture
def log(tmp_path: Path, writer: SegmentWriter) -> Iterator[Log]:
    with open_log(tmp_path / "events") as log:
        yield log


@pytest.fixture
def shell(log: Log) -> SqlShell:
    return SqlShell(log, named_queries(), Answers())


@pytest.fixture
def type_in(shell: SqlShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Types lines and returns what came out on stdout and stderr."""

    def type_in(*lines: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
        shell.loop(plain_reader())
        return capsys.readouterr()

    return type_in


def test_a_statement_may_have_several_lines(type_in: Type) -> None:
    assert type_in("SELECT agent", "FROM steps", "ORDER BY agent;", "SELECT 1 AS one;") == (
        "agent\na\nb\none\n  1\n",
        "",
    )


def test_the_last_statement_needs_no_semicolon(type_in: Type) -> None:
    assert type_in("SELECT 1 AS one") == ("one\n  1\n", "")


def test_errors_end_nothing(type_in: Type) -> None:
    out, err = type_in(
        "SELECT agnt FROM steps;", ".nonsense", ".run nothing", ".run slowest_runs x", "SELECT 1 AS one;"
    )
    assert out == "one\n  1\n"
    assert [line.split(":")[0] for line in err.splitlines() if line.startswith("error")] == ["error"] * 4
    assert "LINE 1: SELECT agnt" in err
    assert "no command .nonsense" in err


def test_each_statement_sees_what_was_written_before_it(type_in: Type, writer: SegmentWriter) -> None:
    assert type_in("SELECT count(*) AS n FROM events;")[0] == "n\n2\n"
    writer.write([Event("agent.finished", 3)])
    assert type_in("SELECT count(*) AS n FROM events;")[0] == "n\n3\n"


def test_own_tables_live_as_long_as_the_shell(type_in: Type) -> None:
    out, _ = type_in("CREATE TABLE mine AS SELECT 7 AS n;", "FROM mine;", ".tables")
    assert "n\n7\n" in out
    assert "mine" in out
    assert "segments" not in out


def test_commands_show_what_there_is(type_in: Type) -> None:
    out, err = type_in(".help", ".tables", ".schema runs", ".queries")
    assert err == ""
    assert out.startswith(HELP)
    for shown in ("model_calls", "cost_usd", "run_story run_id", "slowest_runs since=7 days limit=10"):
        assert shown in out


def test_help_names_every_command() -> None:
    assert all(command in HELP for command in COMMANDS if command != ".help")


def test_the_documented_commands_are_those_of_the_shell() -> None:
    table = QUERIES_DOC.split("## The shell\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(.*?)` \| ", table.replace("\\|", "|"), re.MULTILINE)
    assert documented == [f"{command} {takes}".rstrip() for command, takes in COMMANDS.items()]


def test_a_named_query_takes_parameters(type_in: Type) -> None:
    out, err = type_in(".format jsonl", ".run run_story run_id=run_2")
    assert (json.loads(out)["agent"], err) == ("b", "")
    assert "needs the parameter 'run_id'" in type_in(".run run_story")[1]


def test_a_format_that_is_none_is_refused_with_those_there_are(type_in: Type) -> None:
    assert type_in(".format parquet")[1] == "error: expected: .format table|json|jsonl|csv\n"


def test_timing_is_told_beside_the_answer(type_in: Type) -> None:
    out, err = type_in(".timing on", "SELECT 1 AS one;", ".timing off", "SELECT 1 AS one;")
    assert out.count("one") == 2
    assert err.startswith("1 rows in ")
    assert err.count("rows in") == 1


def test_quit_leaves_and_asks_nothing_more(type_in: Type) -> None:
    assert type_in(".quit", "SELECT 1;") == ("", "")


def test_watch_asks_the_last_question_until_it_is_interrupted(
    type_in: Type, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        writer.write([Event("agent.finished", 3)])
        if len(waited) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(asking.time, "sleep", sleep)
    out, err = type_in("SELECT count(*) AS n FROM events;", ".watch 5", "SELECT 1 AS one;")
    assert out.split() == ["n", "2", "n", "2", "n", "3", "one", "1"]
    assert (waited, err) == ([5.0, 5.0], "")


@pytest.mark.parametrize(("line", "error"), [(".watch 1", "no question yet"), (".watch soon", "got 'soon'")])
def test_watch_needs_a_question_and_a_time(type_in: Type, line: str, error: str) -> None:
    assert error in type_in(line)[1]


def test_ctrl_c_breaks_off_the_statement_and_not_the_shell(
    type_in: Type, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when DuckDB works on the statement."""
    query = log.query

    def tell(sql: str, params: object = None) -> object:
        if sql == ENDLESS:
            threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)).start()
        return query(sql, params)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "query", tell)
    assert type_in(ENDLESS, "SELECT 1 AS one;") == ("one\n  1\n", "")


def completions(shell: SqlShell, text: str) -> list[str]:
    completer = SqlCompleter(shell.vocabulary)
    found = completer.get_completions(Document(text), CompleteEvent(completion_requested=True))
    return [completion.text for completion in found]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("SELECT ag", "agent"),
        ("SELECT * FROM model_c", "model_calls"),
        ("sel", "SELECT"),
        ("SELECT quantile_c", "quantile_cont"),
        ("SELECT comp FROM batches WHERE comp", "completion_tokens"),
        ("FROM runs WHERE ended >= ag", "agents"),
        (".sc", ".schema"),
        (".schema ru", "runs"),
        (".run cost", "cost_by_model"),
        (".run slowest_runs li", "limit="),
        (".format js", "json"),
        (".timing o", "on"),
    ],
)
def test_tab_completes_what_the_database_knows(shell: SqlShell, text: str, first: str) -> None:
    assert completions(shell, text)[0] == first


def test_columns_of_the_views_that_are_named_come_first(shell: SqlShell) -> None:
    assert "thumb" not in completions(shell, "FROM runs WHERE t")
    assert "thumb" in completions(shell, "FROM feedback WHERE t")


def test_nothing_is_completed_where_there_is_nothing_to(shell: SqlShell) -> None:
    assert completions(shell, ".tables x") == []
    assert completions(shell, "SELECT zzzz") == []


def test_keys_on_a_terminal_are_edited_and_remembered(
    shell: SqlShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        read = terminal_reader(shell.vocabulary)
        keys.send_text("SELECT 1\rFROM runs;\r")
        assert read() == "SELECT 1\nFROM runs;"
        keys.send_text(".help\r")
        assert read() == ".help"
        keys.send_text("\x03")
        with pytest.raises(KeyboardInterrupt):
            read()
        keys.send_text("\x04")
        with pytest.raises(EOFError):
            read()
    history = history_file()
    assert history == tmp_path / "home" / "rayflow" / "query_history"
    assert "+FROM runs;" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600
