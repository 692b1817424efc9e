"""Memory: routers and clients -> the session store of a user.

What is remembered belongs to a user of a tenant, within a workflow; all three stand in every message, and nothing is
ever looked for beyond them. It lies in records of the user, so the store of their shard is the one writer.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from rayflow.messages.base import Payload

Kind = Literal["short_term", "long_term", "episodic", "procedural", "semantic"]
"""short_term: said lately. long_term: said, and important. episodic: what a turn was about. procedural: which tools
have served for what. semantic: what many episodes have in common, and facts given by hand."""


class Memory(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing remembered.

    `importance`: from 0 to 1. `subject`: what a fact is about ("home"): a newer fact about it takes its place. `agent`:
    whose run it is from; `private`: nobody but that agent is told. `links`: ids of what it belongs to: of an episode
    the one before, of a fact its episodes. `tools`: of an episode, those that were called, in order. `used_us`,
    `uses`: when it was last recalled or said again, and how often.
    """

    id: str
    kind: Kind
    text: str
    importance: float = 0.5
    subject: str = ""
    tags: list[str] = []
    agent: str = ""
    private: bool = False
    session_id: str = ""
    run_id: str = ""
    created_us: int = 0
    used_us: int = 0
    uses: int = 0
    links: list[str] = []
    tools: list[str] = []


class Remember(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `Remembered`. What has an id that is there already changes nothing, so asking again is fine."""

    tenant: str
    user_id: str
    workflow: str
    memories: list[Memory]


class Remembered(Payload, frozen=True, omit_defaults=True, tag=True):
    """`superseded`: older facts about the same. `evicted`: what had to go for want of room."""

    added: int = 0
    superseded: int = 0
    evicted: int = 0


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which memories. `asker`: only what this agent may be told; None for all. `since_us`, `until_us`: made then."""

    kinds: list[Kind] = []
    agent: str = ""
    tags: list[str] = []
    session_id: str = ""
    since_us: int = 0
    until_us: int = 0
    asker: str | None = None


class Recall(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `Recalled`: the `top_k` memories that have most to do with `query`, best first.

    `fill`: with important ones where fewer do. `use`: count them as used. `preferences`: the user's are wanted, too.
    """

    tenant: str
    user_id: str
    workflow: str
    query: str
    top_k: int = 5
    filter: Filter = Filter()
    fill: bool = False
    use: bool = False
    preferences: bool = False


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """`why`: for people."""

    memory: Memory
    score: float
    why: str = ""


class Recalled(Payload, frozen=True, omit_defaults=True, tag=True):
    found: list[Found] = []
    preferences: dict[str, Any] = {}


class ListMemories(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `Memories`, in the order of their ids. `after`: only ids behind this one."""

    tenant: str
    user_id: str
    workflow: str
    filter: Filter = Filter()
    after: str = ""
    limit: int = 100


class Memories(Payload, frozen=True, omit_defaults=True, tag=True):
    memories: list[Memory]
    more: bool = False


class Forget(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `Forgotten`. `ids`: None for everything."""

    tenant: str
    user_id: str
    workflow: str
    ids: list[str] | None = None


class Forgotten(Payload, frozen=True, tag=True):
    memories: int


class Consolidate(Payload, frozen=True, tag=True):
    """Do now what is otherwise done when the store has nothing else to do. Reply: `Consolidated`."""

    tenant: str
    user_id: str
    workflow: str


class Consolidated(Payload, frozen=True, omit_defaults=True, tag=True):
    """`facts` and `skills`: semantic and procedural memories that are new or have grown."""

    promoted: int = 0
    forgotten: int = 0
    facts: int = 0
    skills: int = 0
