"""How requests are taken in, conversations kept and answers streamed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from rayflow.config.sections.base import Mismatch, Name, ReferenceProblems, Section
from rayflow.config.sections.encryption import EncryptionConfig


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
    multitask_strategy: Literal["enqueue", "reject", "interrupt", "rollback"] = "enqueue"
    """A message for a session whose last one is still being answered: enqueue waits in order, reject gets 409,
    interrupt cancels the answer and keeps what was shown of it, rollback cancels it and takes its turns back. Requests
    may say otherwise."""
    on_disconnect: Literal["cancel", "continue"] = "cancel"
    """When a client leaves before its answer is there: cancel stops the models and keeps what was shown, continue
    finishes and stores the answer. Requests may say otherwise."""
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

    store: Literal["sqlite", "memory", "postgres", "redis"] = "sqlite"
    """sqlite: durable, in the state folder. postgres, redis: on the server at `dsn`. memory: lost with the process."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """Session store actors; each owns a part of all sessions. It cannot change while there are any."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """SQLite durability: FULL survives power loss, NORMAL only process death."""
    max_memory_sessions: Annotated[int, Field(ge=1)] = 100_000
    """memory only: the least recently used session is dropped beyond this."""
    dsn: SecretStr | None = None
    """postgres, redis: the server, such as `postgresql://user:password@host/database` or `rediss://host:6379/0`."""
    namespace: Name | None = None
    """postgres, redis: systems that share a server differ in this; the workflow's name where it is not set."""
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 20
    """postgres, redis: connections that each store actor keeps."""
    pool_overflow: Annotated[int, Field(ge=0, le=1000)] = 10
    """postgres, redis: connections it may open beyond those at a peak, and closes after it."""
    pool_timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """postgres, redis: how long a request waits for a connection."""
    outage_wait_s: Annotated[float, Field(ge=0, le=600)] = 10.0
    """postgres, redis: how long requests wait for a server that is away; then they get 503 with Retry-After."""
    allow_volatile: bool = False
    """postgres, redis: accept a server that may lose sessions, such as Redis without an append-only file."""
    expire: bool = False
    """Delete sessions that are not used any more, with all their turns. Off, they are kept until somebody does."""
    default_timeout_s: Annotated[float, Field(ge=0)] = 3600.0
    """With `expire`: a session goes when nothing has happened in it for so long; 0 for never."""
    max_timeout_s: Annotated[float, Field(ge=0)] = 86_400.0
    """With `expire`: a session goes when it began so long ago, used or not; 0 for never."""
    cleanup_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """How often is looked for sessions (with `expire`) and records that have expired."""
    encryption: EncryptionConfig | None = None
    """Encrypt messages, titles and metadata where they are stored; null: store them readable."""

    @property
    def volatile(self) -> bool:
        """Whether sessions may be lost, because the user allows it."""
        return self.store == "memory" or self.allow_volatile

    @model_validator(mode="after")
    def _reachable(self) -> SessionConfig:
        if self.store in ("postgres", "redis") and self.dsn is None:
            raise ReferenceProblems([Mismatch("dsn", f"the address of the server, for store {self.store}", "nothing")])
        return self


class StreamingConfig(Section):
    """How answers are streamed."""

    flush_s: Annotated[float, Field(ge=0, le=5)] = 0.01
    """Tokens are collected for this long after the first one, which goes out at once."""
    max_chars: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Collected text is sent when it reaches this length."""
    keepalive_s: Annotated[float, Field(gt=0, le=600)] = 15.0
    """A comment line is sent on a silent stream this often."""
