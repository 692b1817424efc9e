"""The model ids of this deployment: the workflow itself and each of its agents.

A client chooses a model as it would at OpenAI: the workflow's name (or `auto`) lets the router choose, an agent's name
asks that agent alone.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from rayflow.config.schema import AgentConfig, WorkflowConfig
from rayflow.errors import NotFound

AUTO = "auto"
NO_LANGUAGE_MODEL = (
    "The embedded offline responder answers with sentences that it was given; it is not a language model."
)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's model object, with a description."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["rayflow"] = "rayflow"
    description: str


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]


class Catalogue:
    """Looks model ids up. `created_s`: Unix time that models report as theirs."""

    def __init__(self, config: WorkflowConfig, created_s: int) -> None:
        self.workflow = config.name
        self.agents = {agent.name for agent in config.agents}
        about = {config.name: _about_workflow(config), **{a.name: _about_agent(config, a) for a in config.agents}}
        self._models = {name: Model(id=name, created=created_s, description=text) for name, text in about.items()}

    def list(self) -> ModelList:
        return ModelList(data=[*self._models.values()])

    def get(self, name: str) -> Model:
        """Raises `NotFound`."""
        return self._models[self.agent(name) or self.workflow]

    def agent(self, name: str) -> str:
        """The agent to ask for this model id, "" for the whole workflow. Raises `NotFound` for an unknown id."""
        if name in self.agents:
            return name
        if name in (self.workflow, AUTO):
            return ""
        known = ", ".join(self._models)
        raise NotFound(f"there is no model {name[:64]!r}; there are {known}", kind="model", id=name[:64], param="model")


def _about_workflow(config: WorkflowConfig) -> str:
    names = ", ".join(agent.name for agent in config.agents)
    offline = all(config.model(agent.model).provider == "offline" for agent in config.agents)
    return _sentences(config.description or f"Workflow of {names}.", offline)


def _about_agent(config: WorkflowConfig, agent: AgentConfig) -> str:
    about = ". ".join(text.rstrip(".") for text in (agent.role, agent.goal) if text)
    return _sentences(about or f"Agent of {config.name}.", config.model(agent.model).provider == "offline")


def _sentences(about: str, offline: bool) -> str:
    about = about.strip() if about.rstrip().endswith(".") else f"{about.strip()}."
    return f"{about} {NO_LANGUAGE_MODEL}" if offline else about
