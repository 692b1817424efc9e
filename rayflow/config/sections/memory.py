"""Memory beyond a session (docs/memory.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rayflow.config.sections.base import Section
from rayflow.config.sections.scaling import CLOCK_PATTERN

MemoryKind = Literal["short_term", "long_term", "episodic", "procedural", "semantic"]


class OffPeak(Section):
    """A time of day with little to do."""

    start: Annotated[str, Field(pattern=CLOCK_PATTERN)]
    """Time of day, HH:MM in UTC."""
    end: Annotated[str, Field(pattern=CLOCK_PATTERN)]
    """Time of day, HH:MM in UTC; earlier than `start`: on the next day."""


class AgentMemory(Section):
    """What is different for one agent. By default it shares the workflow's memory."""

    enabled: bool = True
    """false: its calls are told nothing, and of its runs nothing is remembered."""
    kinds: list[MemoryKind] | None = None
    """Only these are told to it; unset: those of the workflow."""
    top_k: Annotated[int, Field(ge=0, le=50)] | None = None
    """Memories told to its model at most; unset: those of the workflow."""
    private: bool = False
    """What is remembered of its runs is told to no other agent."""


class MemoryConfig(Section):
    """What is known of a user beyond a session. Requests without a user have no memory."""

    enabled: bool = False
    """Remember what users say, and tell models what has to do with a new message."""
    kinds: list[MemoryKind] = ["short_term", "long_term", "episodic", "procedural", "semantic"]
    """short_term: what the user said. long_term: the important part of it. episodic: what a turn was about. procedural:
    which tools have served for what. semantic: what episodes have in common. None: only preferences."""
    max_items: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Memories of one user; beyond, those go first that were not used for longest, the unimportant before others."""
    max_size_mb: Annotated[float, Field(gt=0, le=100_000)] = 1000.0
    """The same in megabytes, as stored (compressed)."""
    top_k: Annotated[int, Field(ge=0, le=50)] = 5
    """Memories told to a model at most; they take up to a quarter of what context.max_context_tokens leaves."""
    promote_importance: Annotated[float, Field(ge=0, le=1)] = 0.8
    """What a user said becomes long_term from this importance on."""
    forget_importance: Annotated[float, Field(ge=0, le=1)] = 0.3
    """What is less important is not remembered, or forgotten as its importance fades."""
    consolidation_interval_s: Annotated[float, Field(gt=0)] = 3600.0
    """Memories of a user are consolidated (promoted, forgotten, joined into facts) after changes, once in this time."""
    consolidation_idle_s: Annotated[float, Field(ge=0)] = 30.0
    """Not before the store had nothing to do with memory for so long, outside of off_peak."""
    off_peak: list[OffPeak] = []
    """Times at which it need not be idle."""
    preferences: bool = True
    """Tell models the preferences of the user, where the session's metadata has none of that name."""
    extraction_model: str | None = None
    """An entry of `models` that says what is worth remembering, after the answer is given; without one, and where it
    fails, the rules of docs/memory.md do."""
