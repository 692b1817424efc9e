"""`rayflow route evaluate` on public messages: what the classifier behind `routing.strategy: intelligent` is worth.

CLINC150 (Larson et al., EMNLP 2019), its ten domains as ten agents; NLU++ hotels (Casanueva et al., NAACL Findings
2022), whose messages have several intents.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from support.data import shared
from typer.testing import CliRunner

from rayflow.cli import route

pytest.importorskip("sklearn", reason="the extra `intelligent` is not installed")

Row = dict[str, Any]


def evaluate(rows: Path, train: Path, label: str) -> dict[str, Any]:
    app = typer.Typer()
    app.command()(route.evaluate)
    done = CliRunner().invoke(app, [str(rows), "--train", str(train), "--label", label, "--format", "json"])
    assert done.exit_code == 0, done.output
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def picked(source: Path, to: Path, wanted: Callable[[Row], bool]) -> Path:
    """The rows that are wanted, in a file of their own."""
    with gzip.open(source, "rt") as lines, to.open("w") as file:
        file.writelines(line for line in lines if wanted(json.loads(line)))
    return to


def test_messages_of_ten_domains_find_their_agent_and_strangers_are_recognised() -> None:
    train = shared("data", "intents", "clinc150_train.jsonl.gz")
    figures = evaluate(shared("data", "intents", "clinc150_val.jsonl.gz"), train, "domain")
    assert figures["accuracy_in_scope"] >= 0.96
    assert figures["out_of_scope_recall"] >= 0.55
    assert figures["expected_calibration_error"] <= 0.05


def test_ten_examples_an_intent_are_enough_to_begin_with(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def among_the_first_ten(row: Row) -> bool:
        seen[row["intent"]] += 1
        return seen[row["intent"]] <= 10

    train = picked(shared("data", "intents", "clinc150_train.jsonl.gz"), tmp_path / "ten.jsonl", among_the_first_ten)
    figures = evaluate(shared("data", "intents", "clinc150_val.jsonl.gz"), train, "domain")
    assert figures["accuracy_without_threshold"] >= 0.88
    assert figures["expected_calibration_error"] <= 0.05


def test_messages_with_several_intents_reach_several_agents(tmp_path: Path) -> None:
    hotels = shared("data", "intents", "nlupp_hotels.jsonl.gz")
    train = picked(hotels, tmp_path / "train.jsonl", lambda row: row["fold"] < 16)
    rows = picked(hotels, tmp_path / "rows.jsonl", lambda row: row["fold"] >= 16)
    figures = evaluate(rows, train, "intents")
    assert figures["precision"] >= 0.75
    assert figures["recall"] >= 0.7
