"""What the routes of users take and give, as JSON."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rayflow.api.decode import fault
from rayflow.api.session_shapes import rfc3339
from rayflow.messages import Filter, Memory
from rayflow.messages.memory import Kind

Share = Annotated[float, Meta(ge=0, le=1)]
Tag = Annotated[str, Meta(min_length=1, max_length=64)]


class Preferences(msgspec.Struct, frozen=True):
    """What a user prefers: language, expertise_level, communication_style, and any other key."""

    user_id: str
    preferences: dict[str, Any]


class MemoryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to remember. `importance`: 0.8 where it is left out, or more where the rules say so."""

    text: Annotated[str, Meta(min_length=1, max_length=2000)]
    kind: Kind = "long_term"
    importance: Share | None = None
    tags: Annotated[list[Tag], Meta(max_length=20)] = []


class MemorySearch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to look for. `top_k`: memory.top_k where it is left out. Times in seconds of Unix time."""

    query: Annotated[str, Meta(min_length=1, max_length=10_000)]
    top_k: Annotated[int, Meta(ge=1, le=100)] | None = None
    kinds: list[Kind] = []
    agent: str = ""
    tags: list[Tag] = []
    session_id: str = ""
    since: Annotated[float, Meta(ge=0, lt=2**43)] = 0
    until: Annotated[float, Meta(ge=0, lt=2**43)] = 0

    @property
    def filter(self) -> Filter:
        since_us, until_us = int(self.since * 1e6), int(self.until * 1e6)
        if until_us and until_us <= since_us:
            raise fault("until", "must be later than since")
        return Filter(self.kinds, self.agent, self.tags, self.session_id, since_us, until_us)


class RememberedThing(msgspec.Struct, frozen=True):
    """A memory. `subject`: what it is a fact about, where only one such fact can hold. `private`: only its agent is
    told."""

    id: str
    kind: str
    text: str
    importance: float
    subject: str
    tags: list[str]
    agent: str
    private: bool
    session_id: str
    run_id: str
    created_at: str
    used_at: str
    uses: int
    links: list[str]
    tools: list[str]


class MemoryPage(msgspec.Struct, frozen=True):
    """`next_after`: what to give as `after` for the next page; null at the end."""

    memories: list[RememberedThing]
    next_after: str | None


class FoundThing(msgspec.Struct, frozen=True):
    score: float
    memory: RememberedThing


class FoundMemories(msgspec.Struct, frozen=True):
    """The best first."""

    found: list[FoundThing]


class Consolidation(msgspec.Struct, frozen=True):
    """What consolidation has changed: memories by what became of them."""

    promoted: int
    forgotten: int
    facts: int
    skills: int


class Removed(msgspec.Struct, frozen=True):
    """How many memories were removed."""

    memories: int


class Erasure(msgspec.Struct, frozen=True):
    """What was erased of a user."""

    user_id: str
    sessions: int
    memories: int
    preferences: int


def memory_of(memory: Memory) -> RememberedThing:
    return RememberedThing(
        id=memory.id,
        kind=memory.kind,
        text=memory.text,
        importance=memory.importance,
        subject=memory.subject,
        tags=memory.tags,
        agent=memory.agent,
        private=memory.private,
        session_id=memory.session_id,
        run_id=memory.run_id,
        created_at=rfc3339(memory.created_us),
        used_at=rfc3339(max(memory.used_us, memory.created_us)),
        uses=memory.uses,
        links=memory.links,
        tools=memory.tools,
    )
