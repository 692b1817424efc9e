"""What every message says of the work it belongs to: its trace, its tenant, its priority.

The fabric puts it into the header of whatever a handler sends and sets it around the handler at the other end, so it
reaches every hop of a run without passing through a single signature.
"""

from __future__ import annotations

from contextvars import ContextVar

import msgspec


class Context(msgspec.Struct, frozen=True, array_like=True):
    """`traceparent` is that of W3C Trace Context; a higher `priority` goes first."""

    traceparent: str = ""
    tenant: str = ""
    priority: int = 0


context: ContextVar[Context | None] = ContextVar("context", default=None)
"""That of the message whose handler runs; None where it had none. Set by the fabric, and by whoever starts a run."""

subject: ContextVar[object] = ContextVar("subject", default=None)
"""The message that this task works on, where it is about a run: what lines of the process's own log say of it."""
