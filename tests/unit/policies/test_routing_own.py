"""A routing policy of one's own: loaded from a file outside the package, and fenced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.errors import ConfigurationError
from rayflow.policies.routing import Decision, RoutingPolicy

RULES = [{"keywords": ["refund"], "target_agent": "billing"}]
FALLBACK = ("billing",)


def policy(folder: Path, body: str, name: str = "decide", **routing: Any) -> RoutingPolicy:
    file = folder / "mine.py"
    file.write_text(body)
    config = RoutingConfig.model_validate({"strategy": f"{file}:{name}", "rules": RULES, **routing})
    return RoutingPolicy(config, [AgentConfig(name=name) for name in ("general", "billing", "technical")])


def decided(folder: Path, returned: str, **routing: Any) -> Decision:
    return policy(folder, f"def decide(text, agents):\n    return {returned}\n", **routing).decide("a refund", 0)


def test_a_function_in_a_file_decides(tmp_path: Path) -> None:
    decision = decided(tmp_path, "agents[-1].name if 'refund' in text else None")
    assert (decision.agents, decision.strategy, decision.confidence) == (("technical",), "own", 0.0)


def test_it_may_name_several_agents_within_the_limit(tmp_path: Path) -> None:
    assert decided(tmp_path, "['technical', 'general']").agents == ("technical", "general")
    assert decided(tmp_path, "['technical', 'general']", max_agents_per_request=1).agents == ("technical",)


def test_confidences_are_weighed_as_those_of_the_built_in_strategies(tmp_path: Path) -> None:
    assert decided(tmp_path, "{'technical': 0.9, 'general': 0.6, 'billing': 0.1}").agents == ("technical", "general")


def test_confidences_below_the_threshold_mean_that_the_message_is_nobodys(tmp_path: Path) -> None:
    assert decided(tmp_path, "{'technical': 0.1}").strategy == "default"


def test_none_means_that_the_message_is_nobodys(tmp_path: Path) -> None:
    assert decided(tmp_path, "None").agents == ("general",)
    assert decided(tmp_path, "None", out_of_scope="decline").declined


def test_a_class_is_made_once_with_the_options_and_keeps_what_it_learns(tmp_path: Path) -> None:
    body = (
        "class Turns:\n"
        "    def __init__(self, start):\n        self.turn = start\n"
        "    def decide(self, text, agents):\n        self.turn += 1\n        return agents[self.turn % 3].name\n"
    )
    mine = policy(tmp_path, body, "Turns", options={"start": 0})
    assert [mine.decide("x", 0).agents[0] for _ in range(3)] == ["billing", "technical", "general"]


def test_a_function_gets_its_options(tmp_path: Path) -> None:
    body = "def decide(text, agents, to):\n    return to\n"
    assert policy(tmp_path, body, options={"to": "technical"}).decide("x", 0).agents == ("technical",)


@pytest.mark.parametrize(
    "returned",
    ["1 / 0", "'nobody'", "['billing', 'nobody']", "[]", "7", "{'technical': 2.0}", "{'technical': 'sure'}", "[['x']]"],
)
def test_where_it_fails_the_keyword_strategy_decides_and_the_log_says_so(
    tmp_path: Path, returned: str, caplog: pytest.LogCaptureFixture
) -> None:
    decision = decided(tmp_path, returned)
    assert (decision.agents, decision.strategy) == (FALLBACK, "keyword")
    assert "the keyword strategy decides" in caplog.text


def test_a_class_without_decide_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"without a method decide"):
        policy(tmp_path, "class Nothing:\n    pass\n", "Nothing")


def test_a_file_without_the_name_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no 'missing'"):
        policy(tmp_path, "", "missing")


def test_its_explanation_shows_the_choice(tmp_path: Path) -> None:
    evidence = policy(tmp_path, "def decide(text, agents):\n    return {'technical': 0.9}\n").explain("x")
    assert [(e.agent, e.confidence, e.why) for e in evidence] == [
        ("general", 0.0, ""), ("billing", 0.0, ""), ("technical", 0.9, "chosen"),
    ]  # fmt: skip
