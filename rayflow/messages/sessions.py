"""Sessions: router and clients -> session stores."""

from __future__ import annotations

from typing import Any

import msgspec

from rayflow.chat import Message
from rayflow.messages.base import Payload


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One durable entry of a session. `seq` counts from 1 within the session."""

    seq: int
    message: Message
    run_id: str = ""
    agent: str = ""
    status: str = "complete"
    created_us: int = 0


class SessionInfo(Payload, frozen=True, omit_defaults=True, tag=True):
    session_id: str
    tenant: str = ""
    user_id: str = ""
    created_us: int = 0
    updated_us: int = 0
    turns: int = 0
    metadata: dict[str, Any] = {}


class CreateSession(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `SessionInfo`. Fails with `Conflict` where the id is taken."""

    tenant: str
    session_id: str
    user_id: str = ""
    metadata: dict[str, Any] = {}


class GetSession(Payload, frozen=True, tag=True):
    """Reply: `SessionInfo`, or `NotFound`."""

    tenant: str
    session_id: str


class GetHistory(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `History` with turns of `after < seq`, oldest first; or the last `limit` ones with `tail`."""

    tenant: str
    session_id: str
    after: int = 0
    limit: int = 100
    tail: bool = False


class History(Payload, frozen=True, tag=True):
    info: SessionInfo
    turns: list[Turn]


class DeleteSession(Payload, frozen=True, tag=True):
    """Reply: `Ack`, or `NotFound`."""

    tenant: str
    session_id: str


class AppendTurns(Payload, frozen=True, omit_defaults=True, tag=True):
    """Make messages durable at the end of a session, making the session where it is new. Reply: `Appended`, after
    fsync.

    `expected_seq`: the last number the caller knows, or -1 for "whatever it is"; another one fails with `Conflict`,
    and a session that is gone with `NotFound`.
    `window`: also return the last so many turns from before this append (0: none).
    A `run_id` and role already present are not written again: an append may be repeated safely.
    """

    tenant: str
    session_id: str
    messages: list[Message]
    run_id: str = ""
    user_id: str = ""
    agent: str = ""
    expected_seq: int = -1
    window: int = 0
    status: str = "complete"


class Appended(Payload, frozen=True, omit_defaults=True, tag=True):
    last_seq: int
    created: bool = False
    window: list[Turn] = []
    answer: Turn | None = None
    """Where the append was a repetition: the answer that its run has committed already."""
