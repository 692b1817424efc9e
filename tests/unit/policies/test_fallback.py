"""Who follows whom, and which errors lead how far."""

from __future__ import annotations

from typing import Any

import pytest

from rayflow.config.schema import AgentConfig
from rayflow.errors import (
    Cancelled,
    CircuitOpen,
    ConfigurationError,
    DeadlineExceeded,
    Fenced,
    ModelError,
    ModelRateLimited,
    ModelRejected,
    NotFound,
    Overloaded,
    PeerLost,
    PoisonMessage,
    Unavailable,
    UnknownAddress,
    ValidationError,
    WorkflowError,
)
from rayflow.policies.fallback import Target, chain, leads_to


def agents(**more: dict[str, Any]) -> list[AgentConfig]:
    return [AgentConfig.model_validate({"name": name, **keys}) for name, keys in more.items()]


def test_an_agent_alone_has_only_itself() -> None:
    assert chain(agents(a={}), "a") == (Target("a", "offline"),)


def test_its_own_models_come_before_another_agents() -> None:
    team = agents(a={"model": "large", "fallback_models": ["small", "tiny"], "fallback_agent": "b"}, b={})
    assert chain(team, "a") == (
        Target("a", "large"),
        Target("a", "small", own=False),
        Target("a", "tiny", own=False),
        Target("b", "offline"),
    )


def test_a_fallback_agent_brings_its_own_chain_along() -> None:
    team = agents(a={"fallback_agent": "b"}, b={"fallback_models": ["m"], "fallback_agent": "c"}, c={})
    assert [target[:2] for target in chain(team, "a")] == [
        ("a", "offline"),
        ("b", "offline"),
        ("b", "m"),
        ("c", "offline"),
    ]


def test_agents_that_name_each_other_are_no_circle() -> None:
    team = agents(a={"fallback_agent": "b"}, b={"fallback_agent": "a"})
    assert [target.agent for target in chain(team, "a")] == ["a", "b"]
    assert [target.agent for target in chain(team, "b")] == ["b", "a"]


def test_a_model_that_is_named_twice_is_asked_once() -> None:
    team = agents(a={"model": "m", "fallback_models": ["m", "n", "n"]})
    assert [target.model for target in chain(team, "a")] == ["m", "n"]


@pytest.mark.parametrize(
    "error",
    [ModelError("x"), ModelRejected("x"), ModelRateLimited("x"), CircuitOpen("x"), ConfigurationError("no key")],
)
def test_an_endpoints_failure_leads_to_the_next_model(error: WorkflowError) -> None:
    assert leads_to(error) == "model"


@pytest.mark.parametrize(
    "error",
    [Unavailable("x"), UnknownAddress("x"), Fenced("x"), DeadlineExceeded("x"), PeerLost("never sent", sent=False)],
)
def test_an_agent_that_is_not_there_leads_to_the_next_agent(error: WorkflowError) -> None:
    assert leads_to(error) == "agent"


@pytest.mark.parametrize(
    "error",
    [
        PeerLost("it died over it"),
        PoisonMessage("x"),
        ValidationError("x"),
        Overloaded("x"),
        Cancelled("x"),
        NotFound("x"),
    ],
)
def test_what_is_the_requests_own_fault_or_an_overload_leads_nowhere(error: WorkflowError) -> None:
    assert leads_to(error) is None
