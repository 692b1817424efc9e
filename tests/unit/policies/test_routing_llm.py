"""What a model is asked about a message, and which of its answers count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rayflow.chat import Message
from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.policies.routing.llm import MAX_CHARS, MAX_TURNS, ByModel
from rayflow.policies.routing.team import Team


def asked(**routing: Any) -> ByModel:
    agents = [
        AgentConfig(name="billing", description="Answers about money.", examples=["where is my refund"]),
        AgentConfig(name="technical", role="engineer", capabilities=["crash", "login"]),
        AgentConfig(name="general"),
    ]
    return ByModel(Team(RoutingConfig.model_validate({"strategy": "llm", **routing}), agents))


def answer(**agents: float) -> str:
    return json.dumps({"agents": [{"name": name, "confidence": sure} for name, sure in agents.items()]})


def test_the_model_reads_what_each_agent_is_for() -> None:
    system, user = asked().messages("my bill is wrong", [])
    assert system.role == "system"
    assert "- billing: Answers about money.; for example: where is my refund" in system.text
    assert "- technical: engineer; can do: crash, login" in system.text
    assert "- general: general" in system.text
    assert user == Message("user", "The last message:\nmy bill is wrong")


def test_the_model_sees_the_last_turns_and_nothing_of_excessive_length() -> None:
    history = [Message("user", f"turn {i}") for i in range(9)] + [Message("tool", "secret result")]
    text = asked().messages("x" * 9 * MAX_CHARS, history)[1].text
    assert "turn 4" not in text
    assert "secret" not in text
    assert [f"turn {i}" in text for i in range(9 - MAX_TURNS, 9)] == [True] * MAX_TURNS
    assert text.count("x") == MAX_CHARS


def test_the_answer_s_form_allows_only_names_of_the_team() -> None:
    response_format = asked().params.response_format
    assert response_format is not None
    choice = response_format["json_schema"]["schema"]["properties"]["agents"]["items"]
    assert choice["properties"]["name"]["enum"] == ["billing", "technical", "general"]


def test_the_agent_that_the_model_is_surest_of_answers() -> None:
    decision = asked().decide(answer(technical=0.2, billing=0.9))
    assert (decision.agents, decision.confidence, decision.strategy) == (("billing",), 0.9, "llm")


def test_several_agents_answer_where_the_model_is_sure_of_several() -> None:
    assert asked().decide(answer(technical=0.7, billing=0.9)).agents == ("billing", "technical")


def test_a_message_for_which_the_model_names_nobody_is_out_of_scope() -> None:
    assert asked().decide('{"agents": []}').strategy == "default"
    assert asked(out_of_scope="decline").decide(answer(billing=0.2)).declined


def test_a_code_fence_around_the_json_is_forgiven() -> None:
    assert asked().decide(f"```json\n{answer(billing=1)}\n```").agents == ("billing",)


@pytest.mark.parametrize(
    "said",
    [
        "", "billing", "null", "[]", '{"agents": "billing"}', '{"agents": ["billing"]}',
        '{"agents": [{"name": "billing"}]}', '{"agents": [{"name": "billing", "confidence": "1"}]}',
        answer(nobody=0.9), answer(billing=1.5), answer(billing=-0.1), answer(billing=float("nan")),
        '{"agents": [], "note": "x"}', f"Sure! {answer(billing=0.9)}",
    ],
)  # fmt: skip
def test_an_answer_that_is_not_exactly_what_was_asked_for_is_none(said: str) -> None:
    with pytest.raises(ValueError, match=r"is not the JSON|names 'nobody'|has a confidence"):
        asked().decide(said)
