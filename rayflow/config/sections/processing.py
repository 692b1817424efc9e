"""How requests are taken in, conversations kept and answers streamed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rayflow.config.sections.base import Mismatch, ReferenceProblems, Section


class ProcessingConfig(Section):
    """How requests are taken in."""

    input_validation: bool = True
    """Check the length of messages."""
    min_length: Annotated[int, Field(ge=0)] = 1
    """Fewest characters of a user message."""
    max_length: Annotated[int, Field(ge=1)] = 10_000
    """Most characters of a user message."""
    request_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Deadline of a run; clients may ask for less."""
    routers: Annotated[int, Field(ge=1, le=64)] = 1
    """Router actors; a session always belongs to one of them."""
    ingress: Annotated[int, Field(ge=1, le=64)] = 2
    """HTTP processes on the one port; with two, one may die without the port being closed for a moment."""
    max_queue: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Runs that may wait for a busy agent in one router; more get 429 with Retry-After."""
    ready_grace_s: Annotated[float, Field(ge=0, le=600)] = 0.5
    """When stopping: `/readyz` answers 503 for so long before the port is closed. Behind a load balancer, longer than
    it takes to notice that."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Time for work in flight when stopping."""

    @model_validator(mode="after")
    def _order(self) -> ProcessingConfig:
        if self.max_length < self.min_length:
            raise ReferenceProblems(
                [Mismatch("max_length", f"at least min_length ({self.min_length})", str(self.max_length))]
            )
        return self


class SessionConfig(Section):
    """How conversations are kept."""

    store: Literal["sqlite", "memory"] = "sqlite"
    """sqlite: durable, in the state folder. memory: lost with the process."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """Session store actors; each owns a part of all sessions. It cannot change while the state folder holds any."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """SQLite durability: FULL survives power loss, NORMAL only process death."""
    max_memory_sessions: Annotated[int, Field(ge=1)] = 100_000
    """memory only: the least recently used session is dropped beyond this."""


class ContextConfig(Section):
    """What a model sees of the conversation."""

    enrichment: bool = True
    """Add earlier turns of the session to a call."""
    window: Annotated[int, Field(ge=0, le=1000)] = 20
    """Earlier messages a call carries."""
    cached_sessions: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Sessions whose window a router keeps in memory, so that a turn reads the store once and not each time."""


class StreamingConfig(Section):
    """How answers are streamed."""

    flush_s: Annotated[float, Field(ge=0, le=5)] = 0.01
    """Tokens are collected for this long after the first one, which goes out at once."""
    max_chars: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Collected text is sent when it reaches this length."""
    keepalive_s: Annotated[float, Field(gt=0, le=600)] = 15.0
    """A comment line is sent on a silent stream this often."""
