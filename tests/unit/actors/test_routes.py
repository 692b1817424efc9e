"""Routing as a router does it: at once where it can, waiting for a model where it must, and never failing for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from actor_doubles import HeldModel, config

from rayflow.actors.routes import Routes, RoutingMeans
from rayflow.chat import Message
from rayflow.clock import ManualClock, deadline
from rayflow.errors import ConfigurationError, ModelError
from rayflow.policies.routing import Scorer

RULES = [{"keywords": ["refund"], "target_agent": "b"}]
SAYS_A = '{"agents": [{"name": "a", "confidence": 0.9}]}'


class Sure:
    def score(self, text: str) -> list[float]:
        return [0.1, 0.9]

    def why(self, text: str, agent: int) -> str:
        return ""


async def routes(means: RoutingMeans = RoutingMeans(), **routing: Any) -> Routes:  # noqa: B008 (immutable)
    made = Routes(config(routing={"rules": RULES, **routing}), ManualClock(), lambda names: names[-1], means)
    await made.start()
    return made


async def by_model(model: HeldModel, **routing: Any) -> Routes:
    return await routes(RoutingMeans(model=lambda: model), strategy="llm", **routing)


async def test_most_strategies_decide_without_a_wait() -> None:
    assert (await routes()).decide_now("refund", 0) == await (await routes()).decide("refund", 0)
    balanced = (await routes(strategy="load_balanced")).decide_now("x", 0)
    assert balanced is not None
    assert balanced.agents == ("b",)


async def test_learning_is_over_before_the_first_decision() -> None:
    gate = asyncio.Event()

    async def learn() -> Scorer:
        await gate.wait()
        return Sure()

    learner = Routes(config(routing={"strategy": "intelligent"}), ManualClock(), min, RoutingMeans(scorer=learn))
    starting = asyncio.create_task(learner.start())
    gate.set()
    await starting
    decision = learner.decide_now("x", 0)
    assert decision is not None
    assert decision.agents == ("b",)
    assert [evidence.confidence for evidence in learner.explain("x")] == [0.1, 0.9]


async def test_what_keeps_a_strategy_from_learning_keeps_the_router_from_starting() -> None:
    async def learn() -> Scorer:
        raise ConfigurationError("no examples")

    with pytest.raises(ConfigurationError, match="no examples"):
        await routes(RoutingMeans(scorer=learn), strategy="intelligent")


async def test_a_model_chooses_and_sees_what_was_said_before() -> None:
    model = HeldModel(SAYS_A)
    asking = await by_model(model)
    assert asking.decide_now("refund", 0) is None
    decision = await asking.decide("and tomorrow?", 0, [Message("user", "the refund")])
    assert (decision.agents, decision.strategy, decision.confidence) == (("a",), "llm", 0.9)
    assert "user: the refund" in model.requests[0].messages[1].text


@pytest.mark.parametrize(
    "model",
    [HeldModel("billing, I think"), HeldModel('{"agents": [{"name": "c", "confidence": 1}]}')],
    ids=["no JSON", "unknown agent"],
)
async def test_an_answer_that_does_not_count_leaves_it_to_the_keywords(model: HeldModel) -> None:
    decision = await (await by_model(model)).decide("a refund", 0)
    assert (decision.agents, decision.strategy) == (("b",), "keyword")
    assert decision.reason == "rule: refund (the model did not choose)"


async def test_a_model_that_fails_leaves_it_to_the_keywords(caplog: pytest.LogCaptureFixture) -> None:
    model = HeldModel(SAYS_A)
    model.errors.append(ModelError("down"))
    asking = await by_model(model)
    assert (await asking.decide("a refund", 0)).strategy == "keyword"
    assert "the keyword strategy decides: down" in caplog.text
    assert (await asking.decide("a refund", 1)).strategy == "llm", "the next message asks the model again"


async def test_a_model_that_takes_too_long_leaves_it_to_the_keywords_and_is_cut_off() -> None:
    model = HeldModel(SAYS_A, held=True)
    decision = await (await by_model(model, timeout_s=0.01)).decide("a refund", 0)
    assert decision.strategy == "keyword"
    assert model.cancelled == 1


async def test_the_callers_deadline_shortens_the_wait() -> None:
    model = HeldModel(SAYS_A)
    asking = await by_model(model)
    token = deadline.set(3.0)
    try:
        await asking.decide("x", 0)
    finally:
        deadline.reset(token)
    assert model.requests[0].deadline_s == 3.0


async def test_what_the_model_chose_is_delegated() -> None:
    rule = {"delegation_rules": [{"keywords": ["urgent"], "agent": "b"}]}
    team = config({"name": "a", **rule}, {"name": "b"}, routing={"strategy": "llm"})
    asking = Routes(team, ManualClock(), min, RoutingMeans(model=lambda: HeldModel(SAYS_A)))
    await asking.start()
    assert (await asking.decide("urgent", 0)).agents == ("b",)


async def test_without_a_model_that_can_choose_the_keywords_decide_at_once() -> None:
    without = await routes(strategy="llm")
    decision = without.decide_now("a refund", 0)
    assert decision is not None
    assert (decision.agents, decision.strategy) == (("b",), "keyword")
    assert await without.decide("a refund", 0) == decision


async def test_the_model_is_closed_with_the_router() -> None:
    model = HeldModel(SAYS_A)
    await (await by_model(model)).stop()
    assert model.closed
    await (await routes()).stop()
