"""`rayflow model` as a user types it."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from rayflow.api import model_server
from rayflow.api.model_faults import Behaviour
from rayflow.cli import model
from rayflow.errors import ConfigurationError


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    model.register(made)

    @made.command()
    def other() -> None:
        """A second command, so that `model` keeps its name."""

    return made


def test_say_prints_one_answer(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["model", "say", "My order is late."])
    assert done.exit_code == 0
    assert done.stdout.startswith("Noted: your order is late.")


def test_say_fails_where_the_knowledge_file_is_missing(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["model", "say", "hi", "--knowledge", "/nowhere.md"])
    assert isinstance(done.exception, ConfigurationError)


def test_serve_hands_every_setting_on(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[object, ...]] = []
    monkeypatch.setattr(model_server, "serve", lambda *settings: served.append(settings[:3]))
    options = (
        "--ttft-ms 50 --tokens-per-s 200 --output-tokens 64 --error-rate 0.1 --rate-limit-rate 0.2 "
        "--stall-rate 0.3 --cut-rate 0.4 --seed 7 --port 0 --host ::1"
    )
    done = CliRunner().invoke(app, ["model", "serve", *options.split()])
    assert done.exit_code == 0, done.output
    assert served == [(Behaviour(50, 200, 64, 0.1, 0.2, 0.3, 0.4, 7), "::1", 0)]


def test_serve_refuses_a_rate_above_one(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["model", "serve", "--error-rate", "1.5"]).exit_code == 2
