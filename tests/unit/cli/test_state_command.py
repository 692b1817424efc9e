"""`rayflow state` on a state folder that nobody serves from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.cli import sessions, state
from rayflow.cli.exits import Exit, report

app = typer.Typer()
state.register(app)
sessions.register(app)

WORKFLOW = """\
name: shop
agents: [{name: a}]
state:
  fields:
    - {name: order}
    - {name: count, type: integer, reducer: add, default: 0}
    - {name: log, type: list, reducer: append}
"""
EXPORT = """\
{"rayflow_sessions":1}
{"session":{"type":"SessionInfo","session_id":"s","tenant":"acme","created_us":1790000000000000,"updated_us":1}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workflow whose stores have one session of tenant acme."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rayflow.yaml").write_text(WORKFLOW)
    (tmp_path / "export.jsonl").write_text(EXPORT)
    assert CliRunner().invoke(app, ["sessions", "import", "export.jsonl"]).exit_code == 0
    return tmp_path


def ask(*arguments: str, tenant: str = "acme") -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with errors reported as `rayflow` does."""
    result = CliRunner().invoke(app, ["state", *arguments, "--tenant", tenant])
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        return report(result.exception), result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_a_state_is_set_shown_and_kept() -> None:
    assert ask("show", "s") == (0, "version 0, schema_version 1\ncount: 0\n", "")
    code, out, _ = ask("set", "s", "order=7", "count=2", 'log=["a", "b"]')
    assert (code, out) == (0, 'version 1, schema_version 1\norder: "7"\ncount: 2\nlog: ["a", "b"]\n')
    assert ask("set", "s", "count=1", 'log=["\\u001b[2J"]', "--keep-last", "log=2", "--remove", "order")[0] == 0
    code, out, _ = ask("show", "s")
    assert out == 'version 2, schema_version 1\ncount: 3\nlog: ["b", "\\u001b[2J"]\n'
    assert json.loads(ask("show", "s", "--version", "1", "--format", "json")[1])["values"]["order"] == "7"


def test_history_and_differences_are_printed() -> None:
    ask("set", "s", "order=7")
    ask("set", "s", 'log=["a"]', "--replace", "count=5")
    code, out, _ = ask("history", "s")
    assert code == 0
    assert out.splitlines()[0].startswith("version 2: ")
    assert out.splitlines()[0].endswith("after turn 0, rayflow state")
    assert '  order: nothing -> "7"' in out
    assert ask("diff", "s", "1", "2")[1] == '  count: nothing -> 5\n  log: nothing -> ["a"]\n'
    ask("set", "s", 'log=["b"]')
    assert ask("diff", "s", "2")[1] == '  log[1]: [] -> ["b"]\n'
    assert [delta["version"] for delta in json.loads(ask("history", "s", "--last", "2", "--format", "json")[1])] == [
        3,
        2,
    ]


def test_a_checkpoint_is_made_restored_and_deleted() -> None:
    ask("set", "s", "order=7")
    assert ask("checkpoint", "s", "good") == (0, "", "checkpoint good is version 1\n")
    ask("set", "s", "order=8")
    assert ask("show", "s")[1].endswith("checkpoint good: version 1\n")
    assert ask("restore", "s", "good")[1].startswith('version 3, schema_version 1\norder: "7"')
    assert ask("restore", "s", "--version", "2")[1].startswith('version 4, schema_version 1\norder: "8"')
    assert ask("checkpoint", "s", "good", "--delete") == (0, "", "deleted checkpoint good\n")
    code, _, err = ask("restore", "s", "good")
    assert (code, err) == (Exit.INPUT, "session s has no checkpoint 'good'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", "s", "count=x"], "count: expected JSON, got 'x'"),
        (["set", "s", 'count="x"'], "update.count: expected a whole number of 64 bits, got text"),
        (["set", "s", "count"], "'count': expected FIELD=VALUE"),
        (["set", "s", "coun=1"], "did you mean count?"),
        (["set", "s", "--keep-last", "log=x"], "log: expected a number of items, got 'x'"),
        (["set", "s", "order=7", "--if-version", "3"], "has version 0 by now, not 3"),
        (["show", "s", "--version", "9"], "there is no version 9"),
        (["show", "other"], "other"),
        (["restore", "s"], "either a checkpoint or a version"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_changed(arguments: list[str], message: str) -> None:
    code, _, err = ask(*arguments)
    assert code != 0
    assert message in err
    assert ask("show", "s")[1].startswith("version 0")


def test_another_tenant_has_no_such_session() -> None:
    code, _, err = ask("show", "s", tenant="globex")
    assert code == Exit.INPUT
    assert "s" in err


def test_a_fork_takes_the_state_along() -> None:
    ask("set", "s", "order=7")
    child = CliRunner().invoke(app, ["sessions", "fork", "s", "--tenant", "acme"]).stdout.strip()
    assert 'order: "7"' in ask("show", child)[1]


def test_a_changed_schema_is_explained(folder: Path) -> None:
    ask("set", "s", 'log=["a"]', "order=7")
    changed = WORKFLOW.replace("type: list, reducer: append", "type: integer").replace("{name: order}", "{name: other}")
    (folder / "rayflow.yaml").write_text(changed)
    out = ask("show", "s")[1]
    assert "warning: log: expected a whole number of 64 bits, stored is a list: give it a value with `replace`" in out
    assert "kept of an earlier schema: order" in out
    assert ask("set", "s", "--replace", "log=1", "--remove", "order")[0] == 0
    assert ask("show", "s")[1] == "version 2, schema_version 1\ncount: 0\nlog: 1\n"
