"""Files that a workflow file names are looked for beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.config.load import from_dict, load, load_text
from rayflow.errors import ConfigurationError

OWN = {
    "routing": "routing: {strategy: %s}",
    "balancing": "balancing: {strategy: %s}",
    "scaling": "scaling: {strategy: %s}",
    "admission": "admission: {strategy: %s}",
    "aggregation": "aggregation: {strategy: %s}",
}


@pytest.mark.parametrize("section", OWN)
def test_a_policy_of_ones_own_is_found_beside_the_workflow_file(tmp_path: Path, section: str) -> None:
    (tmp_path / "mine.py").touch()
    (tmp_path / "team.yaml").write_text(f"name: team\nagents: [{{name: a}}]\n{OWN[section] % 'mine.py:decide'}\n")
    config = load(tmp_path / "team.yaml", env={})
    assert getattr(config, section).strategy == f"{tmp_path}/mine.py:decide"


@pytest.mark.parametrize("section", ["balancing", "scaling"])
def test_so_is_one_of_a_single_agent(tmp_path: Path, section: str) -> None:
    (tmp_path / "mine.py").touch()
    config = from_dict({"name": "t", "agents": [{"name": "a", section: {"strategy": "mine.py:F"}}]}, base=tmp_path)
    assert getattr(config.agents[0], section).strategy == f"{tmp_path}/mine.py:F"


def test_policies_of_packages_and_built_in_ones_stay_as_they_are() -> None:
    assert load_text("name: t\nagents: [{name: a}]\nrouting: {strategy: pack.age:F}\n", env={}).routing.strategy == (
        "pack.age:F"
    )
    assert load_text("name: t\nagents: [{name: a}]\n", env={}).routing.strategy == "keyword"


def test_examples_are_found_beside_the_workflow_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    data = {"name": "t", "agents": [{"name": "a", "examples_file": "a.txt"}], "routing": {"out_of_scope_file": "a.txt"}}
    config = from_dict(data, base=tmp_path)
    assert config.agents[0].examples_file == config.routing.out_of_scope_file == str(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ("routing: {strategy: no.py:F}", "routing.strategy", "FILE.py:NAME with an existing file"),
        ("routing: {out_of_scope_file: no.txt}", "routing.out_of_scope_file", "an existing text file"),
        ("embeddings: {local: no}", "embeddings.local", "an existing folder"),
        ("balancing: {strategy: sub/no.py:F}", "balancing.strategy", "FILE.py:NAME with an existing file"),
    ],
)
def test_a_file_that_is_missing_is_named_with_its_place(tmp_path: Path, line: str, key: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(f"name: t\nagents: [{{name: a}}]\n{line}\n", "t.yaml", env={}, base=tmp_path)
    (problem,) = caught.value.details["problems"]
    assert (problem["key"], problem["expected"], problem["line"]) == (key, expected, 3)
    assert problem["hint"] == f"it is looked for in {tmp_path}"


@pytest.mark.parametrize("models", ["models: 7", "models: [7]", "agents: {name: a}", "routing: [x]"])
def test_what_has_another_form_is_left_to_the_schema(models: str) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        load_text(f"name: t\n{models}\n", env={})
