from __future__ import annotations

from pathlib import Path

from rayflow.config.load import load, load_text
from rayflow.config.schema import WorkflowConfig
from rayflow.config.template import STARTER
from rayflow.config.yaml import parse

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_starter_loads_without_key_and_network() -> None:
    config = load_text(STARTER, env={})
    assert len(config.agents) == 3
    assert {config.model(agent.model).provider for agent in config.agents} == {"offline"}
    assert all(agent.system_prompt.count(".") >= 3 for agent in config.agents)


def test_the_starter_has_a_rule_that_asks_two_agents() -> None:
    assert any(len(rule.target_agents) == 2 for rule in load_text(STARTER, env={}).routing.rules)


def test_the_starter_shows_every_section() -> None:
    assert set(parse(STARTER.encode(), "starter").data) == set(WorkflowConfig.model_fields)


def test_the_values_of_the_starter_are_the_defaults_where_it_only_explains() -> None:
    config = load_text(STARTER, env={})
    chosen = {"name", "description", "version", "agents", "routing"}
    for key in WorkflowConfig.model_fields.keys() - chosen:
        assert getattr(config, key) == WorkflowConfig.model_fields[key].default, key


def test_the_commented_endpoint_of_the_starter_works_when_its_marks_are_removed() -> None:
    before, start, rest = STARTER.partition("  # - name: gpt\n")
    entry, end, after = rest.partition("\n\n")
    text = before + (start + entry).replace("  # ", "  ") + end + after
    config = load_text(text, overrides=["agents.0.model=gpt"], env={"OPENAI_API_KEY": "k"})
    assert config.model("gpt").provider == "openai"


def test_the_example_file_is_the_starter() -> None:
    assert (EXAMPLES / "support_team.yaml").read_text(encoding="utf-8") == STARTER


def test_the_openai_example_needs_only_a_key() -> None:
    config = load(EXAMPLES / "openai.yaml", env={"OPENAI_API_KEY": "k"})
    assert config.model("gpt").base_url == "https://api.openai.com/v1"
    local = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:8000/v1", "OPENAI_MODEL": "m"}
    model = load(EXAMPLES / "openai.yaml", env=local).model("gpt")
    assert (model.base_url, model.model) == ("http://127.0.0.1:8000/v1", "m")
