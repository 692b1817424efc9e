"""`rayflow route` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from support.messages_to_route import THINGS, messages, strange
from typer.testing import CliRunner

from rayflow.cli import route
from rayflow.errors import ConfigurationError, ValidationError

FIGURES = {
    "accuracy_in_scope", "accuracy_without_threshold", "out_of_scope_recall", "expected_calibration_error",
    "microseconds_per_decision", "precision", "recall", "confusion",
}  # fmt: skip


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    route.register(made)

    @made.command()
    def other() -> None:
        """A second command, so that `route` keeps its name."""

    return made


def run(app: typer.Typer, *arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["route", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def evaluate(app: typer.Typer, *arguments: str | Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(run(app, "evaluate", *arguments, "--format", "json"))
    return figures


def team(folder: Path, strategy: str = "keyword") -> Path:
    file = folder / "team.yaml"
    examples = {name: [text for text, label in messages(12, seed=1) if label == name] for name in THINGS}
    agents = [{"name": name, "capabilities": things, "examples": examples[name]} for name, things in THINGS.items()]
    routing = {"strategy": strategy, "default_agent": "cooking"}
    state = {"state": str(folder / "state")}
    file.write_text(json.dumps({"name": "team", "agents": agents, "routing": routing, "storage": state}))
    return file


def labelled(folder: Path, name: str = "rows.jsonl", seed: int = 99) -> Path:
    rows = [{"text": text, "to": label, "oos": False} for text, label in messages(20, seed)]
    rows += [{"text": text, "to": "oos", "oos": True} for text in strange(10, seed)]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_explain_shows_who_and_how_sure_and_why(app: typer.Typer, tmp_path: Path) -> None:
    shown = run(app, "explain", "a refund of this invoice", team(tmp_path))
    assert "to          billing" in shown
    assert "confidence  0.960" in shown
    assert "billing    0.960  capability: invoice, refund" in shown


def test_explain_as_json_has_the_score_of_every_agent(app: typer.Typer, tmp_path: Path) -> None:
    known = next(text for text, label in messages(12, seed=1) if label == "billing")
    shown = json.loads(run(app, "explain", known, team(tmp_path, "semantic"), "--format", "json"))
    assert shown["agents"] == ["billing"]
    assert [score["agent"] for score in shown["scores"]] == list(THINGS)
    assert shown["scores"][0]["why"] == f"like {known!r} (1.00)"


def test_explain_says_what_a_declined_message_is_answered_with(app: typer.Typer, tmp_path: Path) -> None:
    decline = ("--set", "routing.out_of_scope=decline", "--set", "routing.decline_message=Not here.")
    assert "to          nobody; the answer is: Not here." in run(app, "explain", "hm", team(tmp_path), *decline)


def test_evaluate_judges_the_workflow_s_own_routing(app: typer.Typer, tmp_path: Path) -> None:
    figures = evaluate(app, labelled(tmp_path), "--label", "to", "--workflow", team(tmp_path))
    assert figures.keys() >= FIGURES
    assert figures["strategy"] == "keyword"
    assert figures["accuracy_in_scope"] == 1.0, "every thing is a capability"
    assert figures["out_of_scope_recall"] == 1.0
    assert figures["confusion"]["billing"] == {"billing": 20}


def test_evaluate_makes_agents_of_labels_and_teaches_them(app: typer.Typer, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the extra `intelligent` is not installed")
    train = labelled(tmp_path, "train.jsonl", seed=1)
    figures = evaluate(app, labelled(tmp_path), "--label", "to", "--train", train)
    assert figures["strategy"] == "intelligent"
    assert figures["accuracy_without_threshold"] >= 0.9
    assert figures["training_cpu_seconds"] > 0


def test_evaluate_takes_any_strategy(app: typer.Typer, tmp_path: Path) -> None:
    train = labelled(tmp_path, "train.jsonl", seed=1)
    figures = evaluate(app, labelled(tmp_path), "--label", "to", "--train", train, "--set", "routing.strategy=semantic")
    assert figures["strategy"] == "semantic"
    assert figures["accuracy_without_threshold"] >= 0.7


def test_messages_of_several_agents_are_judged_by_precision_and_recall(app: typer.Typer, tmp_path: Path) -> None:
    rows = [{"text": text, "to": [label]} for text, label in messages(20, seed=1)]
    rows += [
        {"text": f"{one} and {two}", "to": [a, b]}
        for (one, a), (two, b) in zip(messages(10, seed=2), messages(10, seed=3), strict=True)
    ]
    path = tmp_path / "several.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures = evaluate(app, path, "--label", "to", "--train", path, "--set", "routing.strategy=semantic")
    assert 0.7 < figures["precision"] <= 1
    assert 0.7 < figures["recall"] <= 1
    shown = run(app, "evaluate", path, "--label", "to", "--train", path, "--set", "routing.strategy=semantic")
    assert "confusion: right agent" in shown


def test_a_label_that_is_no_agent_is_named(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "intent": "unheard"}\n')
    with pytest.raises(ValidationError, match=r"'unheard' is no agent of workflow 'team'"):
        run(app, "evaluate", path, "--workflow", team(tmp_path))
    path.write_text('{"text": "x", "intent": "not a name"}\n')
    with pytest.raises(ValidationError, match=r"'not a name' cannot be the name of an agent"):
        run(app, "evaluate", path, "--train", path)


def test_a_wrong_override_is_a_configuration_error(app: typer.Typer, tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    with pytest.raises(ConfigurationError, match=r"routing.strategy"):
        run(app, "evaluate", rows, "--label", "to", "--train", rows, "--set", "routing.strategy=clever")


def test_a_workflow_and_a_training_file_exclude_each_other(app: typer.Typer, tmp_path: Path) -> None:
    rows = labelled(tmp_path)
    done = CliRunner().invoke(app, ["route", "evaluate", str(rows), "--train", str(rows), "--workflow", str(rows)])
    assert done.exit_code == 2
