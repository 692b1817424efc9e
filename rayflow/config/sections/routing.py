"""Which agents answer a message."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rayflow.config.sections.base import Mismatch, Name, Own, ReferenceProblems, Section

Routing = Literal["keyword", "capability", "intelligent", "semantic", "llm", "round_robin", "load_balanced"]


PREPARED = frozenset({"intelligent", "semantic", "llm"})
"""Strategies that need something before the first decision: to have learnt, or a model to ask."""


class KeywordRule(Section):
    """Send a message to agents when it contains keywords.

    Confidence is 1 - 0.2^h for h distinct keywords found: 0.8 for one, 0.96 for two.
    """

    name: str = ""
    """Shown in events and explanations."""
    keywords: Annotated[list[str], Field(min_length=1)]
    """Words or phrases, matched as whole words, case-insensitive."""
    target_agent: Name | None = None
    """Agent to send to."""
    target_agents: list[Name] = []
    """Several agents to ask side by side."""
    confidence_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The rule applies from this confidence on."""

    @model_validator(mode="after")
    def _target(self) -> KeywordRule:
        if (self.target_agent is None) == (not self.target_agents):
            got = "both" if self.target_agents else "neither"
            raise ReferenceProblems([Mismatch("target_agent", "either target_agent or target_agents", got)])
        return self


class RoutingConfig(Section):
    """Which agents answer a message."""

    strategy: Routing | Own = "keyword"
    """keyword: rules, then the capability map, then the default agent. capability: the capability map, then the default
    agent. intelligent: a classifier trained on the agents' examples and descriptions. semantic: the agent whose
    examples a message is most like. llm: a model chooses. round_robin: agents in turn. load_balanced: the least busy
    agent. Or a policy of your own as FILE.py:NAME."""
    rules: list[KeywordRule] = []
    """Keyword rules; the one with the highest confidence wins, the earlier one on a tie."""
    default_agent: Name | None = None
    """Who answers when nothing matches; unset: the first agent."""
    max_agents_per_request: Annotated[int, Field(ge=1, le=16)] = 3
    """Upper limit of agents asked side by side."""
    max_delegations: Annotated[int, Field(ge=0, le=8)] = 1
    """How often a message may be handed on by delegation rules."""
    confidence_threshold: Annotated[float, Field(ge=0, le=1)] = 0.45
    """intelligent, semantic, llm: below this confidence a message is out of scope."""
    multi_agent_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """intelligent, semantic: every collaborative agent from this confidence on answers, the surest first; one agent of
    several that are sure to exclude each other has most of the confidence."""
    multi_agent: bool = False
    """intelligent, semantic: learn which agents a message belongs to independently of each other, so that one message
    may have several."""
    out_of_scope: Literal["default_agent", "decline"] = "default_agent"
    """Who answers a message that is nobody's: the default agent, or nobody, with `decline_message`."""
    decline_message: str = "I am sorry, I cannot help with that here."
    """The answer to a message that was declined."""
    out_of_scope_examples: list[str] = []
    """intelligent: messages that are nobody's. It recognises them better with some."""
    out_of_scope_file: str | None = None
    """intelligent: more of them, one a line; relative to the workflow file."""
    model: Name = "offline"
    """llm: entry of `models` that chooses."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """llm: when the model has not chosen within this time, the keyword strategy does."""
    options: dict[str, Any] = {}
    """Options of a policy of your own."""
