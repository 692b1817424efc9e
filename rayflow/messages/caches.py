"""Caches: routers -> session stores, and whoever asks how caches fare or has them forget."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from rayflow.messages.base import Payload

CacheUse = Literal["", "no-cache", "no-store"]
"""What a client wants of the result cache: as configured; no stored answer, but this one may be kept; nothing."""

KIND = "result"
"""The kind of records that hold answers, under `results/`, and how often a tenant had them forgotten."""
FORGOTTEN = "forgotten"
"""Name of the record of a tenant that says how often its answers were forgotten."""
EVERYTHING = "forgotten-everywhere"
"""Name of the same of all tenants, which the tenant "" has."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A kept answer. `agents`: whose text is in it."""

    text: str
    model: str = ""
    agents: list[str] = []
    strategy: str = ""
    confidence: float = 1.0
    metadata: dict[str, Any] = {}


class GetAnswer(Payload, frozen=True, tag=True):
    """Ask the session store that has `results/<first digit of key>` for a kept answer. Reply: `FoundAnswer`."""

    tenant: str
    key: str


class FoundAnswer(Payload, frozen=True, omit_defaults=True, tag=True):
    """`answer` is None where there is none."""

    answer: Answer | None = None
    expires_us: int = 0


class KeepAnswer(Payload, frozen=True, tag=True):
    """Tell that store of a new answer."""

    tenant: str
    key: str
    answer: Answer
    expires_us: int


class ForgetAnswers(Payload, frozen=True, omit_defaults=True, tag=True):
    """Tell a router how often answers were forgotten by now. Reply: `Ack`: it gives none of the earlier ones any more.

    `everywhere`: the number for all tenants. `counts`: those of this one, by agent, and under "" for all its agents;
    None where they have not changed.
    """

    tenant: str = ""
    everywhere: int = 0
    counts: dict[str, int] | None = None


class GetCaches(Payload, frozen=True, tag=True):
    """Ask an actor how its caches fare. Reply: `Caches`."""


class CacheCounts(msgspec.Struct, frozen=True):
    """Of one cache and level, since the process started; `entries` is now."""

    cache: str
    level: str
    hits: int = 0
    misses: int = 0
    stores: int = 0
    evictions: int = 0
    entries: int = 0


class Caches(Payload, frozen=True, tag=True):
    caches: list[CacheCounts]
