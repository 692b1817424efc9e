"""`rayflow memory` and `rayflow users` on a state folder that nobody serves from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.cli import memory, users
from rayflow.cli.exits import Exit, report

app = typer.Typer()
memory.register(app)
users.register(app)

WORKFLOW = """\
name: shop
agents: [{name: helper}]
memory: {enabled: true}
session: {store: sqlite, shards: 2}
"""


@app.callback()
def root_command() -> None:
    """With a callback, Typer keeps the groups commands of their own."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(WORKFLOW)
    return tmp_path


def ask(folder: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with errors reported as `rayflow` does."""
    where = ["--workflow", str(folder / "shop.yaml"), "--state", str(folder / "state")]
    result = CliRunner().invoke(app, [*arguments, *where], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        return report(result.exception), result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_what_is_added_is_listed_found_and_forgotten(folder: Path) -> None:
    code, added, _ = ask(folder, "memory", "add", "ann", "I live in\x1b[2J Graz.", "--tag", "home")
    ask(folder, "memory", "add", "ann", "The parcel is lost", "--kind", "short_term", "--importance", "0.9")
    ask(folder, "memory", "add", "bob", "I live in Oslo")
    assert code == 0

    _, table, _ = ask(folder, "memory", "list", "ann")
    assert table.splitlines()[0].split() == ["id", "importance", "kind", "text"]
    assert ("Graz." in table, "\x1b" in table, "Oslo" in table) == (True, False, False)
    _, found, _ = ask(folder, "memory", "search", "ann", "where do I live?", "--format", "json")
    assert [(each["id"], each["tags"]) for each in json.loads(found)] == [(added.strip(), ["home"])]
    assert ask(folder, "memory", "consolidate", "ann")[2].startswith("promoted 1, forgot 0")
    assert ask(folder, "memory", "list", "ann", "--kind", "short_term", "--format", "json")[1] == "[]\n"
    assert ask(folder, "memory", "forget", "ann", added.strip())[2] == "forgot 1 memories of user ann\n"
    assert ask(folder, "memory", "forget", "ann", added.strip())[0] == Exit.INPUT
    assert ask(folder, "memory", "forget", "ann", "--all")[2] == "forgot 1 memories of user ann\n"


def test_adding_what_is_known_says_so(folder: Path) -> None:
    ask(folder, "memory", "add", "ann", "I live in Graz")

    code, out, err = ask(folder, "memory", "add", "ann", "I live in Graz!")
    assert (code, out, "already" in err) == (0, "", True)


def test_to_forget_everything_must_be_said(folder: Path) -> None:
    assert ask(folder, "memory", "forget", "ann")[0] == Exit.USAGE


def test_without_memory_the_commands_say_how_to_have_it(folder: Path) -> None:
    (folder / "shop.yaml").write_text(WORKFLOW.replace("enabled: true", "enabled: false"))

    code, _, err = ask(folder, "memory", "add", "ann", "I live in Graz")
    assert (code, "memory.enabled" in err) == (Exit.INPUT, True)


def test_preferences_are_set_removed_and_cleared(folder: Path) -> None:
    language, level = ("--set", "language=German"), ("--set", "expertise_level=expert")
    _, out, _ = ask(folder, "users", "preferences", "ann", *language, *level)
    assert json.loads(out) == {"language": "German", "expertise_level": "expert"}
    assert json.loads(ask(folder, "users", "preferences", "ann", "--set", "language=")[1]) == {
        "expertise_level": "expert"
    }
    assert json.loads(ask(folder, "users", "preferences", "ann", "--tenant", "acme")[1]) == {}
    assert json.loads(ask(folder, "users", "preferences", "ann", "--clear")[1]) == {}
    assert ask(folder, "users", "preferences", "ann", "--set", "language")[0] == Exit.USAGE


def test_erasing_a_user_takes_everything_of_them_and_nothing_of_others(folder: Path) -> None:
    for user in ("ann", "bob"):
        ask(folder, "memory", "add", user, "I live in Graz")
        ask(folder, "users", "preferences", user, "--set", "language=German")
    assert ask(folder, "users", "erase", "ann", stdin="n\n")[0] == 1

    _, _, err = ask(folder, "users", "erase", "ann", "--yes")

    assert err == "deleted 0 sessions, 1 memories and 1 preferences of user ann\n"
    assert ask(folder, "memory", "list", "ann", "--format", "json")[1] == "[]\n"
    assert json.loads(ask(folder, "users", "preferences", "ann")[1]) == {}
    assert json.loads(ask(folder, "users", "preferences", "bob")[1]) == {"language": "German"}
    assert len(json.loads(ask(folder, "memory", "list", "bob", "--format", "json")[1])) == 1
