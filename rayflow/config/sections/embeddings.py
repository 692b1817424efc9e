"""Vectors of texts, for search by meaning (docs/caches.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from rayflow.config.sections.base import Mismatch, Name, ReferenceProblems, Section


class EmbeddingsConfig(Section):
    """Vectors of texts, for search by meaning beside that by words. Off unless `model` or `local` is given."""

    model: Name | None = None
    """An entry of `models`: one with provider openai is asked at its `/embeddings`; `offline` stands for hashed words,
    which know nothing of meaning and are there to try things without a model."""
    local: str | None = None
    """Instead: folder of a sentence-transformers model, relative to the workflow file; needs `rayflow[embeddings]`."""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of meaning in the rank of what is found; the rest is that of words."""
    batch_size: Annotated[int, Field(ge=1, le=2048)] = 64
    """Texts of one call."""
    max_chars: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Of each text, so much is looked at."""
    wait_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    """How long a run waits for vectors; what is not there by then is searched by words alone."""
    cached: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Vectors that a process keeps, least recently used first out."""

    @property
    def enabled(self) -> bool:
        return self.model is not None or self.local is not None

    @model_validator(mode="after")
    def _one_source(self) -> EmbeddingsConfig:
        if self.model is not None and self.local is not None:
            raise ReferenceProblems([Mismatch("local", "either model or local", "both")])
        return self
