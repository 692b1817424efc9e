"""`rayflow scale` as a user types it, without a system."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.app import attach
from rayflow.cli import scale
from rayflow.cli.exits import Exit, report


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    scale.register(made)
    return made


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["1.5"], (1.5, "", None)),
        (["writer", "0.5"], (0.5, "writer", None)),
        (["writer", "=3"], (1.0, "writer", 3)),
        (["=0"], (1.0, "", 0)),
    ],
)
def test_it_asks_for_what_was_typed_and_says_what_there_will_be(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch, arguments: list[str], asked: tuple[float, str, int | None]
) -> None:
    seen = []

    async def scale_running(state: Path, factor: float, agent: str, replicas: int | None) -> dict[str, int]:
        seen.append((state, factor, agent, replicas))
        return {"writer": 3, "critic": 2}

    monkeypatch.setattr(attach, "scale_running", scale_running)
    done = CliRunner().invoke(app, ["--state", "here", *arguments])
    assert (done.exit_code, done.stdout) == (Exit.OK, "writer 3\ncritic 2\n")
    assert seen == [(Path("here"), *asked)]


@pytest.mark.parametrize("wrong", [["0"], ["nan"], ["inf"], ["=1.5"], ["=-1"], ["writer"], ["a", "b", "2"], []])
def test_what_is_no_amount_is_refused(app: typer.Typer, wrong: list[str]) -> None:
    assert CliRunner().invoke(app, wrong).exit_code == Exit.USAGE


def test_nothing_that_runs_is_a_missing_dependency(app: typer.Typer, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["2", "--state", str(tmp_path)])
    assert isinstance(refused.exception, Exception)
    assert report(refused.exception) == Exit.DEPENDENCY
