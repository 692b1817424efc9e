"""`rayflow sessions` on a state folder that nobody serves from."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.cli import sessions
from rayflow.cli.exits import Exit, report

app = typer.Typer()
sessions.register(app)

EXPORT = """\
{"rayflow_sessions":1}
{"session":{"type":"SessionInfo","session_id":"s","tenant":"acme","user_id":"ada","created_us":1790000000000000,\
"updated_us":1790000000000001,"turns":2,"title":"Hi \\u001b[2J"}}
{"turn":{"seq":1,"message":{"role":"user","content":"hi\\u001b]0;x"},"created_us":1790000000000000}}
{"turn":{"seq":2,"message":{"role":"assistant","content":"hello"},"agent":"billing","partial":true}}
{"session":{"type":"SessionInfo","session_id":"o","user_id":"bob","created_us":1790000000000002,"updated_us":2}}
"""


@app.callback()
def root_command() -> None:
    """With a callback, Typer keeps the group a command of its own."""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with two sessions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "export.jsonl").write_text(EXPORT)
    state = tmp_path / "state"
    code, _, err = ask("import", tmp_path / "export.jsonl", state=state)
    assert (code, err) == (0, "imported 2 sessions and 2 turns\n")
    return state


def ask(*arguments: str | Path, state: Path, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with errors reported as `rayflow` does."""
    result = CliRunner().invoke(app, ["sessions", *map(str, arguments), "--state", str(state)], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        return report(result.exception), result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def listed(state: Path, *arguments: str) -> list[str]:
    _, out, _ = ask("list", "--format", "json", *arguments, state=state)
    return [session["session_id"] for session in json.loads(out)]


def test_a_list_shows_sessions_of_all_tenants_or_of_one(state: Path) -> None:
    _, out, _ = ask("list", state=state)
    assert out.splitlines()[0].split() == ["session", "tenant", "user", "turns", "last", "turn", "title"]
    assert "acme" in out
    assert (listed(state), listed(state, "--tenant", "acme"), listed(state, "--user", "bob")) == (
        ["o", "s"],
        ["s"],
        ["o"],
    )
    code, out, err = ask("list", "--limit", "1", state=state)
    assert (code, len(out.splitlines()), "there are more than 1" in err) == (0, 2, True)


def test_a_session_is_shown_without_commanding_the_terminal(state: Path) -> None:
    code, out, _ = ask("show", "s", "--tenant", "acme", state=state)
    assert code == 0
    assert "title: Hi �[2J" in out
    assert "\x1b" not in out
    assert "2 billing (cut)\nhello" in out
    _, out, _ = ask("show", "s", "--tenant", "acme", "--last", "1", "--format", "json", state=state)
    assert [turn["status"] for turn in json.loads(out)["turns"]] == ["partial"]


def test_another_tenants_session_is_not_found(state: Path) -> None:
    code, out, err = ask("show", "s", state=state)
    assert (code, out, err) == (Exit.INPUT, "", "there is no session s")


def test_an_export_is_readable_by_its_owner_only_and_comes_in_elsewhere(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    assert ask("export", file, state=state)[0] == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ask("export", state=state)[1] == file.read_text()
    other = tmp_path / "other"
    assert ask("import", "-", state=other, stdin=file.read_text())[0] == 0
    assert ask("export", state=other)[1] == file.read_text()
    assert ask("export", "--user", "bob", state=state)[1].count("\n") == 2


def test_an_import_that_is_cut_says_so_with_exit_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = ask("import", "-", state=tmp_path / "st", stdin="".join(EXPORT.splitlines(keepends=True)[:3]))
    assert code == Exit.PARTIAL
    assert "the file has not all turns of session s of acme" in err


def test_a_session_is_forked_and_deleted(state: Path) -> None:
    _, child, _ = ask("fork", "s", "--tenant", "acme", "--at", "1", "--branch", "b", state=state)
    _, out, _ = ask("show", child.strip(), "--tenant", "acme", "--format", "json", state=state)
    shown = json.loads(out)["session"]
    assert (shown["parent_conversation_id"], shown["turns"], shown["branch_id"]) == ("s", 1, "b")
    assert ask("delete", "s", "--tenant", "acme", state=state)[0] == 0
    assert listed(state) == ["o", child.strip()]
    assert ask("delete", "s", "--tenant", "acme", state=state)[0] == Exit.INPUT


def test_a_user_is_erased_after_a_question(state: Path) -> None:
    code, _, _ = ask("erase", "ada", "--tenant", "acme", state=state, stdin="n\n")
    assert (code, len(listed(state))) == (1, 2)
    code, _, err = ask("erase", "ada", "--tenant", "acme", "--yes", state=state)
    assert (code, err) == (0, "deleted 1 sessions of user ada of acme\n")
    assert listed(state) == ["o"]


def test_sessions_are_moved_and_what_to_set_is_said_without_values(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bytes(range(32)).hex()
    code, _, err = ask("migrate", "--to", "session.shards=2", "--to", f"session.encryption.key={key}", state=state)
    assert (code, key in err) == (0, False)
    assert "moved 2 sessions; now set session.shards, session.encryption.key in the workflow file" in err
    workflow = tmp_path / "rayflow.yaml"
    workflow.write_text("name: w\nagents: [{name: a}]\nsession: {shards: 2, encryption: {key: '${THE_KEY}'}}\n")
    monkeypatch.setenv("THE_KEY", key)
    assert listed(state) == ["o", "s"]


def test_keys_are_changed_from_the_command_line(state: Path, tmp_path: Path) -> None:
    assert ask("rekey", state=state)[0] == Exit.CONFIG
    workflow = tmp_path / "rayflow.yaml"
    keys = tmp_path / "keys"
    workflow.write_text("name: w\nagents: [{name: a}]\nsession: {encryption: {key_file: keys}}\n")
    old, new = bytes(range(32)).hex(), bytes(range(1, 33)).hex()
    keys.write_text(f"{old}\n")
    assert ask("rekey", state=state) == (0, "", "rekeyed 2 sessions\n")
    keys.write_text(f"{new}\n{old}\n")
    assert ask("rekey", state=state)[2] == "rekeyed 2 sessions\n"
    keys.write_text(f"{new}\n")
    assert listed(state) == ["o", "s"]
    keys.write_text(f"{old}\n")
    code, _, err = ask("list", state=state)
    assert (code, "session.encryption.previous" in err) == (Exit.STORAGE, True)
