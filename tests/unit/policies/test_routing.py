"""Routing: who answers, how sure, and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.policies.routing import RoutingPolicy, confidence

RULES: list[dict[str, Any]] = [
    {"name": "money", "keywords": ["refund", "invoice", "credit note"], "target_agent": "billing"},
    {"name": "code", "keywords": ["C++", "C#", "bug"], "target_agent": "technical"},
]


def agents(**changes: dict[str, Any]) -> list[AgentConfig]:
    names = ("general", "billing", "technical")
    return [AgentConfig.model_validate({"name": name, **changes.get(name, {})}) for name in names]


def policy(team: list[AgentConfig] | None = None, **routing: Any) -> RoutingPolicy:
    return RoutingPolicy(RoutingConfig.model_validate({"rules": RULES, **routing}), team or agents())


@pytest.mark.parametrize(
    ("hits", "expected"),
    [(1, 0.8), (2, 0.96), (3, 0.992), (4, 0.9984)],
)
def test_confidence_is_one_minus_a_fifth_per_phrase_found(hits: int, expected: float) -> None:
    assert confidence(hits) == pytest.approx(expected)
    assert confidence(hits) >= expected, "a rule with this very threshold applies"


@pytest.mark.parametrize(
    ("message", "agent", "sure"),
    [
        ("I want a refund", "billing", 0.8),
        ("A refund of this invoice, please", "billing", 0.96),
        ("refund refund REFUND", "billing", 0.8),
        ("send me a credit note", "billing", 0.8),
        ("note my credit card", "general", 0.0),
        ("is C++ hard?", "technical", 0.8),
        ("the vitamin C", "general", 0.0),
        ("debugging is fun", "general", 0.0),
        ("", "general", 0.0),
    ],
)
def test_keywords_are_distinct_whole_words_or_phrases(message: str, agent: str, sure: float) -> None:
    decision = policy().decide(message, 0)
    assert decision.agents == (agent,)
    assert decision.confidence == pytest.approx(sure)
    assert decision.strategy == ("keyword" if sure else "default")


def test_the_surest_rule_wins_and_the_earlier_one_on_a_tie() -> None:
    assert policy().decide("a refund for a bug in C#", 0).agents == ("technical",)
    assert policy().decide("a refund for a bug", 0).agents == ("billing",)


def test_a_rule_below_its_threshold_does_not_apply() -> None:
    strict = policy(rules=[{**RULES[0], "confidence_threshold": 0.9}])
    assert strict.decide("refund", 0).strategy == "default"
    assert strict.decide("refund the invoice", 0).agents == ("billing",)


def test_a_threshold_of_nothing_still_needs_a_keyword() -> None:
    assert policy(rules=[{**RULES[0], "confidence_threshold": 0.0}]).decide("hello", 0).strategy == "default"


def test_the_reason_names_the_rule_and_what_was_found() -> None:
    assert policy().decide("Refund my INVOICE", 0).reason == "rule 'money': refund, invoice"


def test_several_targets_are_asked_side_by_side_each_once_up_to_the_limit() -> None:
    rule = {"keywords": ["help"], "target_agents": ["technical", "billing", "technical", "general"]}
    assert policy(rules=[rule]).decide("help", 0).agents == ("technical", "billing", "general")
    assert policy(rules=[rule], max_agents_per_request=2).decide("help", 0).agents == ("technical", "billing")


@pytest.mark.parametrize(
    ("specialist", "asked"),
    [("technical", ("technical",)), ("billing", ("technical", "general")), ("general", ("technical", "billing"))],
)
def test_a_specialist_answers_alone(specialist: str, asked: tuple[str, ...]) -> None:
    rule = {"keywords": ["help"], "target_agents": ["technical", "billing", "general"]}
    team = agents(**{specialist: {"type": "specialist"}})
    assert policy(team, rules=[rule]).decide("help", 0).agents == asked


CAPABLE = {"billing": {"capabilities": ["taxes", "payment"]}, "technical": {"capabilities": ["payment", "crash log"]}}


@pytest.mark.parametrize(
    ("message", "agent", "sure"),
    [
        ("about taxes", "billing", 0.8),
        ("payment crashed, here is the crash log", "technical", 0.96),
        ("a payment", "billing", 0.8),
        ("hello", "general", 0.0),
    ],
)
def test_the_agent_with_most_capabilities_named_answers_where_no_rule_does(
    message: str, agent: str, sure: float
) -> None:
    for strategy in ("keyword", "capability"):
        decision = policy(agents(**CAPABLE), strategy=strategy).decide(message, 0)
        assert decision.agents == (agent,)
        assert decision.confidence == pytest.approx(sure)


def test_rules_come_before_capabilities_and_only_in_the_keyword_strategy() -> None:
    message = "a refund of my taxes and the payment, see the crash log"
    assert policy(agents(**CAPABLE)).decide(message, 0).strategy == "keyword"
    assert policy(agents(**CAPABLE), strategy="capability").decide("refund for a crash log", 0).agents == ("technical",)


def test_the_default_agent_is_the_configured_one_else_the_first() -> None:
    assert policy().decide("hello", 0).agents == ("general",)
    assert policy(default_agent="technical").decide("hello", 0).agents == ("technical",)


def test_round_robin_takes_agents_in_turn_whatever_is_said() -> None:
    turns = [policy(strategy="round_robin").decide("refund", turn) for turn in range(4)]
    assert [turn.agents[0] for turn in turns] == ["general", "billing", "technical", "general"]
    assert {turn.confidence for turn in turns} == {0.0}


def hand_on(agent: str, *keywords: str) -> dict[str, Any]:
    return {"delegation_rules": [{"keywords": list(keywords), "agent": agent}]}


def test_a_message_is_handed_on_by_the_chosen_agents_rules() -> None:
    decision = policy(agents(billing=hand_on("technical", "crash"))).decide("refund: it did crash", 0)
    assert decision.agents == ("technical",)
    assert decision.strategy == "delegation"
    assert decision.confidence == pytest.approx(0.8)
    assert decision.reason == "rule 'money': refund; delegated billing -> technical"


def test_the_default_agent_hands_on_too() -> None:
    assert policy(agents(general=hand_on("billing", "cash"))).decide("cash!", 0).agents == ("billing",)


@pytest.mark.parametrize(("limit", "last"), [(0, "general"), (1, "billing"), (2, "technical"), (8, "technical")])
def test_delegation_goes_as_far_as_configured_and_never_in_a_circle(limit: int, last: str) -> None:
    circle = agents(
        general=hand_on("billing", "x"), billing=hand_on("technical", "x"), technical=hand_on("general", "x")
    )
    assert policy(circle, max_delegations=limit).decide("x", 0).agents == (last,)


def test_agents_that_answer_together_hand_nothing_on() -> None:
    rule = {"keywords": ["help"], "target_agents": ["billing", "technical"]}
    team = agents(billing=hand_on("general", "help"))
    assert policy(team, rules=[rule]).decide("help", 0).agents == ("billing", "technical")


@given(st.text(max_size=80), st.integers(0, 1000), st.sampled_from(["keyword", "capability", "round_robin"]))
def test_every_message_gets_a_known_agent_and_the_same_one_again(text: str, turn: int, strategy: str) -> None:
    decision = policy(agents(**CAPABLE), strategy=strategy).decide(text, turn)
    assert decision == policy(agents(**CAPABLE), strategy=strategy).decide(text, turn)
    assert set(decision.agents) <= {"general", "billing", "technical"}
    assert 0 <= decision.confidence < 1
