"""Models, and what they should know."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from rayflow.caching import Counts
from rayflow.chat import ModelChunk, ModelReply, ModelRequest
from rayflow.messages import RunRequest
from rayflow.policies.similarity import Vector


class ModelClient(Protocol):
    """One configured model. An agent replica holds one and makes many calls at once."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """One whole answer. Raises `ModelError` and its subclasses, `ValidationError` for requests it cannot
        express."""
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """The answer in pieces; the last has `finish_reason`. A stream that ends without one raises
        `ModelIncomplete`. Closing the generator closes the upstream call."""
        ...

    async def close(self) -> None: ...


class Embedder(Protocol):
    """Texts as vectors. `name` is that of the model: vectors of different models do not compare."""

    name: str

    @property
    def counts(self) -> Counts:
        """How its cache fared."""
        ...

    def __len__(self) -> int:
        """Vectors in the cache."""
        ...

    async def embed(self, texts: Sequence[str], tenant: str = "") -> Sequence[Vector]:
        """A vector of unit length for each text, in order; compare two with `policies.similarity.similarity`. Any
        number of texts: they go out in batches. `tenant`: whose texts they are; what is known is known for that one
        only. It computes off the loop, may take as long as the model's timeouts allow, and goes on where the caller is
        cancelled. Raises `ModelError` and its subclasses."""
        ...

    async def close(self) -> None: ...


class ContextSource(Protocol):
    """Where more of what a model should know comes from: a knowledge base, a user's profile. A router asks it for every
    run, and waits for two seconds at most. `name` stands in `rayflow context show`."""

    name: str

    async def text(self, request: RunRequest) -> str:
        """What the model should know for this run; "" for nothing. Raises `WorkflowError`, `OSError`."""
        ...
