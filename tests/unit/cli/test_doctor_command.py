"""`rayflow doctor` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import rayflow.app.doctor
from rayflow.app.doctor.finding import Finding
from rayflow.cli import doctor

OK = Finding("python", "ok", "3.12.1")
WARNING = Finding("bytecode cache", "warn", "off", "unset it")
FAILURE = Finding("temporary folder", "fail", "too long", "set TMPDIR")


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    doctor.register(made)
    return made


def shown(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(rayflow.app.doctor, "examine", lambda state, port: list(findings))


def test_warnings_keep_the_exit_code_at_0(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(monkeypatch, OK, WARNING)
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "ok    python              3.12.1",
        "warn  bytecode cache      off",
        "                          fix: unset it",
    ]


def test_a_failure_ends_with_6(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(monkeypatch, OK, FAILURE)
    assert CliRunner().invoke(app, []).exit_code == 6


def test_json_is_one_object(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(monkeypatch, WARNING, FAILURE)
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 6
    assert json.loads(done.stdout) == {
        "healthy": False,
        "checks": [
            {"check": "bytecode cache", "level": "warn", "found": "off", "fix": "unset it"},
            {"check": "temporary folder", "level": "fail", "found": "too long", "fix": "set TMPDIR"},
        ],
    }


def test_every_check_of_this_machine_has_its_line(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--state", str(tmp_path), "--json"])
    checks = [finding["check"] for finding in json.loads(done.stdout)["checks"]]
    assert len(checks) == len(set(checks)) == 19
    assert all(finding["fix"] for finding in json.loads(done.stdout)["checks"] if finding["level"] != "ok")
