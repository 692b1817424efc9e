"""Caches of whole answers (docs/caches.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rayflow.config.sections.base import Mismatch, ReferenceProblems, Section

Level = Literal["router", "shared", "store"]
LEVELS: tuple[Level, ...] = ("router", "shared", "store")


class ResultCacheConfig(Section):
    """Answers that are given again where everything is equal that a model would see."""

    enabled: bool = False
    """Keep answers, and look for one before a model is asked."""
    ttl_s: Annotated[float, Field(gt=0, le=31_536_000)] = 300.0
    """How long an answer is given again."""
    max_entries: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Answers that each router keeps in memory, and each session store for all routers; least recently used first
    out."""
    scope: Literal["tenant", "user", "session"] = "tenant"
    """Who may get an answer that was made for another one: anybody of the tenant, only the same user, or only the same
    session. Never another tenant."""
    levels: Annotated[list[Level], Field(min_length=1)] = ["router", "shared", "store"]
    """router: memory of the router. shared: memory of the session store, for all routers. store: as durable as sessions
    are. What is found further out is kept nearer, too."""
    only_deterministic: bool = True
    """Keep only what a model would say again: with temperature 0 or a seed, and of the offline model."""

    @model_validator(mode="after")
    def _ordered(self) -> ResultCacheConfig:
        if self.levels != [level for level in LEVELS if level in self.levels]:
            expected = f"each level once, in the order {', '.join(LEVELS)}"
            raise ReferenceProblems([Mismatch("levels", expected, ", ".join(self.levels))])
        return self


class CachesConfig(Section):
    """What is kept so that it need not be done again. Contexts have keys of their own: `context.cached_sessions`,
    `context.cache_ttl_s`; vectors, too: `embeddings.cached`."""

    results: ResultCacheConfig = ResultCacheConfig()
    """Whole answers."""
