"""`rayflow reload` as a user types it, without a system."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.app import attach
from rayflow.cli import reload
from rayflow.cli.exits import Exit, report
from rayflow.messages import Reconfigured


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    reload.register(made)
    return made


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (Reconfigured(["agent/a/0"], ["agent/b/0", "ingress/2"]), "replaced agent/a/0\nadded agent/b/0, ingress/2\n"),
        (Reconfigured(removed=["router/1"]), "removed router/1\n"),
        (Reconfigured(), ""),
    ],
)
def test_it_says_what_has_changed(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch, changed: Reconfigured, said: str
) -> None:
    asked = []

    async def reload_running(state: Path, file: Path | None) -> Reconfigured:
        asked.append((state, file))
        return changed

    monkeypatch.setattr(attach, "reload_running", reload_running)
    done = CliRunner().invoke(app, ["--state", "here", "--workflow", "other.yaml"])
    assert (done.exit_code, done.stdout, done.stderr) == (Exit.OK, said, "reloaded\n")
    assert asked == [(Path("here"), Path("other.yaml"))]


def test_nothing_that_runs_is_a_missing_dependency(app: typer.Typer, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["--state", str(tmp_path)])
    assert isinstance(refused.exception, Exception)
    assert report(refused.exception) == Exit.DEPENDENCY
