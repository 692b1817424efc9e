"""Who answers when an agent does not: its other models first, then another agent with its models, then nobody.

The chain is short and known in advance: each agent is met once, so two agents that name each other are no circle.
What kind of error it was decides how far it leads: an endpoint's failure to the next model, a missing or late agent to
the next agent. A refused or cancelled request leads nowhere, and nor does one over which a process died: it may have
been the cause, and no second pool shall pay for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from rayflow.config.schema import AgentConfig
from rayflow.errors import (
    CircuitOpen,
    ConfigurationError,
    DeadlineExceeded,
    Fenced,
    ModelError,
    PeerLost,
    Unavailable,
    UnknownAddress,
    WorkflowError,
)


class Target(NamedTuple):
    """An agent with one of its models. `own`: the one it normally has."""

    agent: str
    model: str
    own: bool = True


def chain(agents: Iterable[AgentConfig], name: str) -> tuple[Target, ...]:
    """Whom to ask for a part of agent `name`, in order."""
    known = {agent.name: agent for agent in agents}
    targets: dict[tuple[str, str], Target] = {}
    met: set[str] = set()
    following: str | None = name
    while following is not None and following not in met:
        agent = known[following]
        for model in (agent.model, *agent.fallback_models):
            targets.setdefault((agent.name, model), Target(agent.name, model, model == agent.model))
        met.add(following)
        following = agent.fallback_agent
    return tuple(targets.values())


def leads_to(error: WorkflowError) -> Literal["model", "agent"] | None:
    """What may be tried after this error: the next model, or only another agent; None: nothing."""
    match error:
        case ModelError() | CircuitOpen() | ConfigurationError():
            return "model"
        case PeerLost(details={"sent": False}):
            return "agent"
        case Unavailable() | UnknownAddress() | Fenced() | DeadlineExceeded():
            return "agent"
        case _:
            return None
