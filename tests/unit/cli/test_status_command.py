"""`rayflow status` as a user sees it, without a system."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.app import attach
from rayflow.app.state import RunFile
from rayflow.cli import serve
from rayflow.messages import ActorStatus, PoolStatus, Status

STATUS = Status(
    "team",
    "1.0",
    "ready",
    [ActorStatus("agent/writer/0", "agent", "ready", 17), ActorStatus("agent/writer/1", "agent", "ready", 18)],
    pools=[PoolStatus("writer", 3, 1, 2, 4, "predictive")],
)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    async def running_status(state: Path) -> tuple[RunFile, Status]:
        return RunFile(1, "run", "team", "http://here"), STATUS

    monkeypatch.setattr(attach, "running_status", running_status)
    made = typer.Typer()
    serve.register(made)
    return made


def test_every_pool_is_shown_with_what_is_wanted_and_what_there_is(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0, shown.output
    header = next(line.split() for line in shown.stdout.splitlines() if "wanted" in line)
    row = next(line.split() for line in shown.stdout.splitlines() if "predictive" in line)
    assert dict(zip(header, row, strict=True)) == {
        "agent": "writer", "wanted": "3", "ready": "1", "starting": "2", "spare": "4", "scaling": "predictive",
    }  # fmt: skip


def test_as_json_it_has_the_pools_too(app: typer.Typer) -> None:
    assert '"pools": [{"agent": "writer", "wanted": 3' in CliRunner().invoke(app, ["status", "--json"]).stdout
