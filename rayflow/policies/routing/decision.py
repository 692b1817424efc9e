"""What routing says: who answers, how sure that is, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scores = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """`agents` in order of preference; nobody where the message was `declined`. `confidence` is the first agent's, and
    `confidences` has each agent's where they are known one by one. `reason` is shown by explanations and in the log."""

    agents: tuple[str, ...]
    confidence: float
    strategy: str
    reason: str
    confidences: tuple[float, ...] = ()
    declined: str = ""
    """The text to answer with, when nobody takes the message."""
    scores: Scores = field(default=(), compare=False)
    """How sure the strategy was of each agent that came into question, the surest first, where there were several."""


def weighed(confidences: Mapping[str, float]) -> Scores:
    """`Decision.scores` of these; nothing where there was nobody else."""
    if len(confidences) < 2:
        return ()
    return tuple(sorted(confidences.items(), key=lambda scored: -scored[1]))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for one agent: for people who ask why."""

    agent: str
    confidence: float
    why: str = ""
