"""The rules that every strategy keeps: who answers alone, how many together, and what becomes of nobody's messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.policies.routing import Decision, RoutingPolicy

NAMES = ("general", "billing", "technical", "travel")


class Says:
    """A scorer that always says the same."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def score(self, text: str) -> tuple[float, ...]:
        return self.scores

    def why(self, text: str, agent: int) -> str:
        return f"word {agent}"


def decide(*scores: float, specialists: tuple[str, ...] = (), text: str = "hi", **routing: Any) -> Decision:
    agents = [
        AgentConfig(name=name, type="specialist" if name in specialists else "collaborative")
        for name in NAMES[: len(scores)]
    ]
    config = RoutingConfig.model_validate({"strategy": "intelligent", **routing})
    return RoutingPolicy(config, agents, Says(*scores)).decide(text, 0)


def test_the_surest_agent_answers_and_the_decision_says_how_sure() -> None:
    decision = decide(0.1, 0.8, 0.05)
    assert (decision.agents, decision.confidence, decision.confidences) == (("billing",), 0.8, (0.8,))
    assert decision.strategy == "intelligent"
    assert decision.reason == "billing 0.80, general 0.10, technical 0.05"


def test_below_the_threshold_the_default_agent_answers() -> None:
    decision = decide(0.1, 0.3, default_agent="general")
    assert (decision.agents, decision.strategy, decision.declined) == (("general",), "default", "")
    assert decision.reason == "surest is billing with 0.30, below 0.45"
    assert decision.confidence == 0.3


def test_below_the_threshold_the_request_is_declined_where_configured() -> None:
    decision = decide(0.1, 0.3, out_of_scope="decline", decline_message="Not here.")
    assert (decision.agents, decision.strategy, decision.declined) == ((), "declined", "Not here.")


def test_a_message_without_a_keyword_is_declined_too() -> None:
    config = RoutingConfig(strategy="keyword", out_of_scope="decline", decline_message="No.")
    assert RoutingPolicy(config, [AgentConfig(name="a")]).decide("hello", 0).declined == "No."


def test_exactly_the_threshold_is_enough() -> None:
    assert decide(0.45, 0.2).agents == ("general",)


def test_all_who_are_sure_enough_answer_together_the_surest_first() -> None:
    assert decide(0.6, 0.9, 0.2, 0.7).agents == ("billing", "travel", "general")
    assert decide(0.6, 0.9, 0.2, 0.7, multi_agent_threshold=0.65).agents == ("billing", "travel")
    assert decide(0.6, 0.9, 0.2, 0.7, max_agents_per_request=1).agents == ("billing",)
    assert decide(0.6, 0.9, 0.2, 0.7).confidences == (0.9, 0.7, 0.6)


def test_a_specialist_that_is_surest_answers_alone_and_else_not_at_all() -> None:
    assert decide(0.6, 0.9, 0.8, specialists=("billing",)).agents == ("billing",)
    assert decide(0.6, 0.9, 0.8, specialists=("technical",)).agents == ("billing", "general")


def test_the_earlier_agent_wins_a_tie() -> None:
    assert decide(0.2, 0.5, 0.5, multi_agent_threshold=0.9).agents == ("billing",)


def test_what_the_scorer_chose_is_delegated_as_everything_else() -> None:
    agents = [
        AgentConfig.model_validate({"name": "a", "delegation_rules": [{"keywords": ["urgent"], "agent": "b"}]}),
        AgentConfig(name="b"),
    ]
    decision = RoutingPolicy(RoutingConfig(strategy="intelligent"), agents, Says(0.9, 0.0)).decide("urgent!", 0)
    assert (decision.agents, decision.strategy, decision.confidence) == (("b",), "delegation", 0.9)


def test_evidence_has_a_score_and_a_reason_for_each_agent() -> None:
    config = RoutingConfig(strategy="semantic")
    evidence = RoutingPolicy(config, [AgentConfig(name="a"), AgentConfig(name="b")], Says(0.9, 0.1)).explain("hi")
    assert [(e.agent, e.confidence, e.why) for e in evidence] == [("a", 0.9, "word 0"), ("b", 0.1, "word 1")]


def test_load_balanced_asks_the_least_busy_agent_and_delegates_nothing() -> None:
    rule = {"delegation_rules": [{"keywords": ["x"], "agent": "a"}]}
    agents = [AgentConfig(name="a"), AgentConfig.model_validate({"name": "b", **rule})]
    policy = RoutingPolicy(RoutingConfig(strategy="load_balanced"), agents, least_loaded=lambda names: names[1])
    assert policy.decide("x", 0).agents == ("b",)
    assert [e.why for e in policy.explain("x")] == ["", "least busy"]


@pytest.mark.parametrize("strategy", ["keyword", "capability", "round_robin", "load_balanced"])
def test_every_strategy_explains_itself_for_every_agent(strategy: str) -> None:
    agents = [AgentConfig(name="a", capabilities=["tax"]), AgentConfig(name="b")]
    rules = [{"name": "r", "keywords": ["tax", "vat"], "target_agent": "a"}]
    policy = RoutingPolicy(RoutingConfig.model_validate({"strategy": strategy, "rules": rules}), agents)
    assert [evidence.agent for evidence in policy.explain("tax and vat")] == ["a", "b"]


def test_the_evidence_of_keywords_is_the_stronger_of_rule_and_capability() -> None:
    agents = [AgentConfig(name="a", capabilities=["tax"]), AgentConfig(name="b")]
    rules = [{"name": "r", "keywords": ["tax", "vat"], "target_agent": "a"}]
    evidence = RoutingPolicy(RoutingConfig.model_validate({"rules": rules}), agents).explain("tax and vat")
    assert evidence[0].confidence == pytest.approx(0.96)
    assert evidence[0].why == "rule 'r': tax, vat"


@given(
    scores=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    threshold=st.floats(0, 1),
    together=st.floats(0, 1),
    most=st.integers(1, 4),
    specialists=st.sets(st.sampled_from(NAMES)),
    decline=st.booleans(),
)
def test_whatever_the_scores_the_rules_hold(
    scores: list[float], threshold: float, together: float, most: int, specialists: set[str], decline: bool
) -> None:
    decision = decide(
        *scores,
        specialists=tuple(specialists),
        confidence_threshold=threshold,
        multi_agent_threshold=together,
        max_agents_per_request=most,
        out_of_scope="decline" if decline else "default_agent",
    )
    sure = dict(zip(NAMES, scores, strict=True))
    assert decision.confidence == max(scores)
    assert len(decision.agents) == len(set(decision.agents)) <= most
    assert bool(decision.declined) == (decline and max(scores) < threshold)
    if decision.strategy == "intelligent":
        assert sure[decision.agents[0]] == max(scores) >= threshold
        assert all(sure[name] >= together for name in decision.agents[1:])
        assert len(decision.agents) == 1 or not specialists.intersection(decision.agents)
        assert list(decision.confidences) == sorted(decision.confidences, reverse=True)
