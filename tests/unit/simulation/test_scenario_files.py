from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.errors import ConfigurationError
from rayflow.simulation.plan import plan
from rayflow.simulation.reading import read
from rayflow.simulation.scenario import Scenario

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "simulations").glob("*.yaml"))

WORKFLOW = """
name: shop
agents:
  - name: sales
  - name: support
    replicas: {min: 2, max: 9}
    balancing: {strategy: prequal}
balancing: {strategy: random}
scaling: {strategy: target_concurrency}
tenants: [{name: gold, weight: 3.0}]
processing: {max_queue: 77}
"""


def problems(text: str, tmp_path: Path, *overrides: str) -> str:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        plan(read(path, overrides))
    return str(raised.value).replace(f"{path}:", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: s\nserivce: {}", "2:1: serivce: expected a known key, got 'serivce'; did you mean service?"),
        ("{}", "name: expected a name (1 to 64"),
        ("name: s\narrivals:\n  process: poison", "3:12: arrivals.process: expected one of poisson, regular, step"),
        (
            "name: s\narrivals: {rate_per_s: fast}",
            "arrivals.rate_per_s: expected a number between 0 and 1000000, got 'fast'",
        ),
        ("name: s\narrivals: {process: trace}", "arrivals.file: expected a path (process is trace), got nothing"),
        ("name: s\narrivals: {process: step}", "arrivals.to_per_s: expected a rate above 0 (process is step), got 0"),
        ("name: s\nfaults: [{from_s: 3, to_s: 2}]", "faults.0.to_s: expected more than from_s (3.0), got 2.0"),
        ("name: s\nservice: {first_token_s: {kind: normal}}", "service.first_token_s.kind: expected one of constant"),
        ("name: s\nbalancing: {strategy: fastest}", "balancing.strategy: expected one of least_busy"),
        ("name: s\nbalancing: {strategy: 'mine.py:Mine'}", "FILE.py:NAME with an existing file, got 'mine.py:Mine'"),
        (
            "name: s\ntenants: [{name: a}]\ntraffic: [{tenant: b}]",
            "traffic.0.tenant: expected the name of a tenant (a), got 'b'",
        ),
        ("name: s\ntraffic: []", "traffic: expected a list of mappings with at least one entry, got an empty list"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    assert said in problems(text, tmp_path)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    assert problems("name: a b\nseed: -1\nrouters: 0", tmp_path).startswith("3 problems")


def test_a_file_that_is_not_there_is_no_scenario(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected a readable scenario file, got no such file"):
        read(tmp_path / "none.yaml")


def test_flags_override_keys_and_are_checked_as_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: s\n")
    scenario = read(path, ["arrivals.rate_per_s=25", "balancing.strategy=prequal", "faults.0.slow=3"])
    assert scenario.arrivals.rate_per_s == 25
    assert scenario.balancing is not None
    assert scenario.balancing.strategy == "prequal"
    assert scenario.faults[0].slow == 3
    assert "--set: scaling.target: expected a number" in problems("name: s", tmp_path, "scaling.target=7")


def test_policies_are_those_of_the_workflow_file_where_the_scenario_has_none(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(WORKFLOW)
    path = tmp_path / "s.yaml"
    path.write_text("name: s\nworkflow: shop.yaml\nagent: support\nscaling: {strategy: manual}\n")
    planned = plan(read(path))
    assert (planned.replicas.min, planned.replicas.max, planned.max_queue) == (2, 9, 77)
    assert planned.balancing.strategy == "prequal", "the agent's own"
    assert planned.scaling.strategy == "manual", "the scenario's"
    assert [tenant.name for tenant in planned.tenants] == ["gold"]
    path.write_text("name: s\nworkflow: shop.yaml\n")
    assert plan(read(path)).balancing.strategy == "random", "the first agent, and the workflow's"


def test_an_agent_must_be_one_of_the_workflow(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(WORKFLOW)
    text = "name: s\nworkflow: shop.yaml\nagent: kitchen"
    assert "(sales, support), got 'kitchen'" in problems(text, tmp_path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_scenarios(path: Path) -> None:
    assert plan(read(path)).duration_s > 0


def test_every_key_is_explained() -> None:
    def unexplained(section: dict[str, object], name: str) -> list[str]:
        properties = section.get("properties", {})
        assert isinstance(properties, dict)
        return [f"{name}.{key}" for key, value in properties.items() if not value.get("description")]

    schema = Scenario.model_json_schema()
    own = {"Arrivals", "Traffic", "Service", "Fault", "Objective", "Distribution", "ManyReplicas"}
    missing = unexplained(schema, "scenario")
    for name in own:
        missing += unexplained(schema["$defs"][name], name)
    assert missing == []
