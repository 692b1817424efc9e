from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from rayflow.cli.config import register as register_config
from rayflow.cli.exits import Exit, report
from rayflow.cli.init import register as register_init
from rayflow.config.load import load
from rayflow.config.reference import reference
from rayflow.config.template import STARTER

SMALL = "name: team\nagents: [{name: a}]\n"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    """The commands of this file under an app of their own, with errors reported as `rayflow` does."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._app = typer.Typer(pretty_exceptions_enable=False)
        self._capsys = capsys
        register_init(self._app)
        register_config(self._app)

    def __call__(self, *args: str) -> Outcome:
        result = CliRunner().invoke(self._app, args)
        if isinstance(result.exception, Exception):
            code = report(result.exception)
            return Outcome(code, result.stdout, result.stderr + self._capsys.readouterr().err)
        return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def rayflow(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capsys)


def test_init_writes_a_file_that_passes_the_check(rayflow: Command) -> None:
    done = rayflow("init")
    assert (done.code, done.out) == (Exit.OK, "")
    assert "rayflow serve rayflow.yaml" in done.err
    assert Path("rayflow.yaml").read_text() == STARTER
    assert rayflow("config", "check").err == "ok: workflow support-team with agents general, billing, technical\n"


def test_init_does_not_overwrite_unless_forced(rayflow: Command) -> None:
    Path("team.yaml").write_text("mine")
    refused = rayflow("init", "team.yaml")
    assert refused.code == Exit.INPUT
    assert "--force" in refused.err
    assert Path("team.yaml").read_text() == "mine"
    assert rayflow("init", "team.yaml", "--force").code == Exit.OK
    assert load("team.yaml", env={}).name == "support-team"


def test_init_leaves_nothing_behind_where_it_cannot_write(rayflow: Command) -> None:
    failed = rayflow("init", "no/such/folder/team.yaml")
    assert failed.code == Exit.STORAGE
    assert "no/such/folder/team.yaml" in failed.err
    assert list(Path().iterdir()) == []


def test_init_leaves_no_temporary_file(rayflow: Command) -> None:
    rayflow("init", "team.yaml")
    assert list(Path().iterdir()) == [Path("team.yaml")]


def test_check_prints_every_problem_on_its_own_line_and_exits_with_3(rayflow: Command) -> None:
    Path("rayflow.yaml").write_text(SMALL + "processing:\n  routers: two\n  drian_s: 1\n")
    failed = rayflow("config", "check", "--set", "session.store=none")
    assert (failed.code, failed.out) == (Exit.CONFIG, "")
    assert failed.err.splitlines() == [
        "error: 3 problems in the configuration",
        "  rayflow.yaml:4:12: processing.routers: expected a whole number between 1 and 64, got 'two'",
        "  rayflow.yaml:5:3: processing.drian_s: expected a known key, got 'drian_s'; did you mean drain_s?",
        "  --set: session.store: expected one of sqlite, memory, postgres, redis, got 'none'",
    ]


def test_check_of_a_missing_file_exits_with_3(rayflow: Command) -> None:
    failed = rayflow("config", "check", "none.yaml")
    assert failed.code == Exit.CONFIG
    assert "none.yaml: expected a readable workflow file" in failed.err


def test_check_takes_variables_into_account(rayflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFLOW_PROCESSING__ROUTERS", "many")
    failed = rayflow("config", "check")
    assert failed.code == Exit.CONFIG
    assert "RAYFLOW_PROCESSING__ROUTERS: processing.routers: expected a whole number" in failed.err


def test_show_prints_the_layers_together_with_secrets_hidden(rayflow: Command) -> None:
    Path("team.yaml").write_text(SMALL)
    shown = rayflow("config", "show", "team.yaml", "--set", "processing.routers=3", "--set", "security.api_keys=[sk-x]")
    assert (shown.code, shown.err) == (Exit.OK, "")
    assert "routers: 3\n" in shown.out
    assert "sk-x" not in shown.out
    assert "'**********'" in shown.out


def test_schema_prints_a_json_schema(rayflow: Command) -> None:
    schema = json.loads(rayflow("config", "schema").out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False


def test_reference_prints_the_table_of_the_documentation(rayflow: Command) -> None:
    assert rayflow("config", "reference").out == reference()
