"""What routing says: who answers, how sure that is, and why."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for one agent: for people who ask why."""

    agent: str
    confidence: float
    why: str = ""
