"""Policies in one file outside the package, named in the workflow file, in a whole system."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rayflow.app.orchestrator import Orchestrator
from rayflow.errors import ConfigurationError

POLICIES = """
from rayflow.policies.own import Fence  # a policy may use what it likes

class ByLength:
    def __init__(self, limit: int = 20):
        self.limit = limit

    def decide(self, text, agents):
        return "brief" if len(text) < self.limit else "thorough"

def raising(*arguments, **options):
    raise RuntimeError("no idea")

def first(replicas, limit, now, rng, key):
    return replicas[0]

"""


def written(folder: Path, **sections: Any) -> Path:
    """A workflow file and the policies beside it."""
    (folder / "mine.py").write_text(POLICIES)
    lines = [
        "name: team",
        "agents:",
        "  - {name: brief, system_prompt: 'Hats are red.', replicas: {min: 2}}",
        "  - {name: thorough, system_prompt: 'Hats are red, and they cost nine.'}",
        f"storage: {{state: {folder / 'state'}}}",
        *(f"{name}: {value}" for name, value in sections.items()),
    ]
    file = folder / "workflow.yaml"
    file.write_text("\n".join(lines))
    return file


async def test_a_policy_in_one_file_decides(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        routing="{strategy: 'mine.py:ByLength', options: {limit: 12}}",
        balancing="{strategy: 'mine.py:first'}",
    )
    async with Orchestrator.from_config(file, in_process=True) as team:
        short, long = await team.process_chat("Hats?"), await team.process_chat("What are hats, and what do they cost?")
    assert (short.metadata["agents"], long.metadata["agents"]) == (["brief"], ["thorough"])


async def test_policies_that_raise_are_fenced_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(
        tmp_path,
        routing="{strategy: 'mine.py:raising', default_agent: thorough}",
        balancing="{strategy: 'mine.py:raising'}",
        admission="{strategy: 'mine.py:raising'}",
        scaling="{strategy: 'mine.py:raising', interval_s: 0.05}",
    )
    with caplog.at_level(logging.ERROR):
        async with Orchestrator.from_config(file, in_process=True) as team:
            answers = [await team.process_chat("What do hats cost?") for _ in range(3)]
    assert {tuple(answer.metadata["agents"]) for answer in answers} == {("thorough",)}
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "the keyword strategy decides: no idea" in said
    assert "least_busy decides: no idea" in said


@pytest.mark.parametrize(
    ("section", "value", "complaint"),
    [
        ("routing", "{strategy: 'other.py:ByLength'}", r"routing\.strategy.*existing file"),
        ("routing", "{strategy: 'mine.py:Missing'}", r"routing\.strategy.*Missing"),
        ("routing", "{strategy: 'mine.py:ByLength', options: {depth: 1}}", r"routing\.strategy.*depth"),
        ("balancing", "{strategy: 'mine.py:POLICIES'}", r"balancing\.strategy.*POLICIES"),
        ("scaling", "{strategy: 'mine.py:Missing'}", r"scaling\.strategy.*Missing"),
        ("admission", "{strategy: 'mine.py:Missing'}", r"admission\.strategy.*Missing"),
        ("aggregation", "{strategy: 'mine.py:Missing'}", r"aggregation\.strategy.*Missing"),
    ],
)
def test_a_policy_that_cannot_be_had_is_told_before_anything_starts(
    section: str, value: str, complaint: str, tmp_path: Path
) -> None:
    file = written(tmp_path, **{section: value})
    with pytest.raises(ConfigurationError, match=complaint):
        Orchestrator.from_config(file, in_process=True)
    assert not (tmp_path / "state").exists()
