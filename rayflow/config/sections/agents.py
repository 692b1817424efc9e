"""Agents and their pools of replicas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rayflow.config.sections.balancing import BalancingConfig
from rayflow.config.sections.base import Mismatch, Name, ReferenceProblems, Section
from rayflow.config.sections.memory import AgentMemory
from rayflow.config.sections.scaling import ScalingConfig


class DelegationRule(Section):
    """Hand a message on to another agent when it contains one of the keywords."""

    keywords: Annotated[list[str], Field(min_length=1)]
    """Words or phrases, matched as whole words, case-insensitive."""
    agent: Name
    """Name of the agent to hand on to."""


class Replicas(Section):
    """How many actors serve one agent, and how much each takes on."""

    min: Annotated[int, Field(ge=0, le=256)] = 1
    """Replicas that always run; 0: none while nobody asks."""
    max: Annotated[int, Field(ge=1, le=256)] = 4
    """Upper limit for scaling."""
    spares: Annotated[int, Field(ge=0, le=16)] = 0
    """Warm replicas beside these: started and ready, and in the rotation at once when the pool grows."""
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Calls one replica works on at the same time; further ones wait in the router's bounded queue."""

    @model_validator(mode="after")
    def _order(self) -> Replicas:
        if self.max < self.min:
            raise ReferenceProblems([Mismatch("max", f"at least min ({self.min})", str(self.max))])
        return self


class AgentConfig(Section):
    """A named role: model, prompt, limits."""

    name: Name
    """Unique name; also a model id of the OpenAI-compatible API."""
    type: Literal["collaborative", "specialist"] = "collaborative"
    """collaborative: may answer together with others. specialist: answers alone."""
    role: str = ""
    """What the agent is, in a few words; part of its system prompt."""
    goal: str = ""
    """What it tries to reach; part of its system prompt."""
    model: Name = "offline"
    """Name of an entry under `models`."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature; unset leaves it to the endpoint."""
    seed: Annotated[int, Field(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    """Seed for endpoints that support repeatable sampling."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Upper limit for one answer."""
    system_prompt: str = ""
    """Instructions at the start of every call."""
    capabilities: list[str] = []
    """Topics this agent can handle; the capability map routes by them."""
    delegation_rules: list[DelegationRule] = []
    """When to hand a message on to another agent."""
    replicas: Replicas = Replicas()
    """Size of the agent's pool."""
    description: str = ""
    """What it is for, in a sentence or two; the intelligent, semantic and llm routers read it."""
    examples: list[str] = []
    """Messages that are this agent's; the intelligent and semantic routers learn from them."""
    examples_file: str | None = None
    """More examples: a text file, one message a line, relative to the workflow file."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Longest time for this agent's part of a run; unset: the run's own deadline."""
    fallback_models: list[Name] = []
    """Entries of `models` to try, in order, when its own has failed and nothing of the answer has gone out."""
    fallback_agent: Name | None = None
    """Agent that answers when this one has failed or is not there."""
    balancing: BalancingConfig | None = None
    """Its own balancing instead of the workflow's."""
    scaling: ScalingConfig | None = None
    """Its own scaling instead of the workflow's."""
    memory: AgentMemory | None = None
    """What is different of the workflow's memory."""
