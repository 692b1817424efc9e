"""From a workflow's agents to what there is to learn."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.errors import ConfigurationError
from rayflow.models.classifier.material import collect

ROUTING = RoutingConfig(strategy="intelligent")


def test_examples_lines_of_a_file_and_the_description_are_the_agents_own(tmp_path: Path) -> None:
    file = tmp_path / "more.txt"
    file.write_text("third\n\n  fourth  \nfirst\n")
    agents = [
        AgentConfig(name="a", examples=["first", "second"], examples_file=str(file), description="what a does"),
        AgentConfig(name="b", description="what b does"),
    ]
    material = collect(ROUTING, agents)
    assert material.labels == ["a", "b"]
    assert material.texts == ["first", "second", "third", "fourth", "what a does", "what b does"]
    assert material.owners == [[0]] * 5 + [[1]]


def test_a_message_may_belong_to_two_agents() -> None:
    agents = [AgentConfig(name="a", examples=["x"]), AgentConfig(name="b", examples=["x", "y"])]
    assert collect(ROUTING, agents).owners == [[0, 1], [1]]


def test_messages_that_are_nobodys_have_no_owner_unless_an_agent_claims_them(tmp_path: Path) -> None:
    file = tmp_path / "nobody.txt"
    file.write_text("weather\n")
    routing = RoutingConfig(out_of_scope_examples=["jokes", "x"], out_of_scope_file=str(file), multi_agent=True)
    material = collect(routing, [AgentConfig(name="a", examples=["x"])])
    assert dict(zip(material.texts, material.owners, strict=True)) == {"x": [0], "jokes": [], "weather": []}
    assert material.independent


def test_an_agent_with_nothing_to_learn_from_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"agents.1: .* agent 'b' has none: write some under examples"):
        collect(ROUTING, [AgentConfig(name="a", examples=["x"]), AgentConfig(name="b", examples=["  "])])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"agents.0.examples_file: .* cannot be read"):
        collect(ROUTING, [AgentConfig(name="a", examples_file=str(tmp_path / "none"))])
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"routing.out_of_scope_file: .* not UTF-8"):
        collect(RoutingConfig(out_of_scope_file=str(tmp_path / "bad")), [AgentConfig(name="a", examples=["x"])])
