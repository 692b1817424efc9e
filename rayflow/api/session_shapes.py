"""What the session routes take and give, as JSON."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rayflow.api.decode import fault
from rayflow.chat import ToolCall
from rayflow.ids import is_safe_id
from rayflow.messages import Position, SessionInfo, Turn

Title = Annotated[str, Meta(max_length=500)]


class SessionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a new session is given; an id is made where none is."""

    session_id: str | None = None
    user_id: str | None = None
    title: Title | None = None
    metadata: dict[str, Any] | None = None


class SessionChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change. `metadata` is merged key by key, null removes a key. `version`: the one that was read; where
    another is there by now, nothing is changed."""

    title: Title | None = None
    metadata: dict[str, Any] | None = None
    version: Annotated[int, Meta(ge=1)] | None = None


class ForkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`at`: `seq` of the last turn to share, 0 for none; all of them where it is left out."""

    at: Annotated[int, Meta(ge=0)] | None = None
    branch_id: Annotated[str, Meta(max_length=255)] | None = None


class Session(msgspec.Struct, frozen=True):
    """A conversation. Times are UTC (RFC 3339); `turns` counts the messages kept, `version` the changes of title and
    metadata. The last four are null where it is no fork, or open."""

    session_id: str
    user_id: str
    title: str
    created_at: str
    updated_at: str
    turns: int
    metadata: dict[str, Any]
    version: int
    closed_at: str | None
    parent_conversation_id: str | None
    branch_id: str | None
    forked_at: int | None


class LockRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`lease_s`: when the lock ends by itself. `wait_s`: how long to wait for somebody else's. `token`: of a lock to
    renew."""

    lease_s: Annotated[float, Meta(gt=0, le=300)] = 10.0
    wait_s: Annotated[float, Meta(ge=0, le=8)] = 0.0
    token: str | None = None


class Lock(msgspec.Struct, frozen=True):
    """A lock that is held: send the token with your runs as `X-Session-Lock`."""

    session_id: str
    token: str
    lease_s: float


class SessionPage(msgspec.Struct, frozen=True):
    """Sessions, the newest first. `next_cursor`: what to give as `cursor` for the next page; null at the end."""

    sessions: list[Session]
    next_cursor: str | None


class TurnUsage(msgspec.Struct, frozen=True):
    """Tokens of an answer; `estimated` where the model reported none."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool


class SessionTurn(msgspec.Struct, frozen=True):
    """One message of a conversation. `seq` counts from 1. `status` is complete, or partial for an answer that was cut:
    it is what was shown."""

    seq: int
    role: str
    content: str | list[dict[str, Any]] | None
    tool_calls: list[ToolCall] | None
    tool_call_id: str | None
    run_id: str
    agent: str
    status: str
    created_at: str
    usage: TurnUsage | None


class SessionHistory(msgspec.Struct, frozen=True):
    """A page of turns, oldest first. `next_after`: what to give as `after` for the next page; null at the end."""

    session: Session
    turns: list[SessionTurn]
    next_after: int | None


def session_of(info: SessionInfo) -> Session:
    return Session(
        session_id=info.session_id,
        user_id=info.user_id,
        title=info.title,
        created_at=rfc3339(info.created_us),
        updated_at=rfc3339(info.updated_us),
        turns=info.turns,
        metadata=info.metadata,
        version=info.version,
        closed_at=rfc3339(info.closed_us) if info.closed_us else None,
        parent_conversation_id=info.parent_conversation_id or None,
        branch_id=info.branch_id or None,
        forked_at=info.forked_at if info.parent_conversation_id else None,
    )


def turn_of(turn: Turn) -> SessionTurn:
    usage = turn.usage
    return SessionTurn(
        seq=turn.seq,
        role=turn.message.role,
        content=turn.message.content,
        tool_calls=turn.message.tool_calls,
        tool_call_id=turn.message.tool_call_id,
        run_id=turn.run_id,
        agent=turn.agent,
        status="partial" if turn.partial else "complete",
        created_at=rfc3339(turn.created_us),
        usage=None if usage is None else TurnUsage(usage.prompt_tokens, usage.completion_tokens, usage.estimated),
    )


def rfc3339(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cursor_of(position: Position) -> str:
    """A place in a list, for clients to hand back."""
    return urlsafe_b64encode(f"{position.created_us}.{position.session_id}".encode()).decode().rstrip("=")


def position_of(cursor: str) -> Position:
    """Raises `ValidationError` for what no list has given."""
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        text = ""
    us, _, session_id = text.partition(".")
    if not (us.isascii() and us.isdigit() and len(us) < 19 and is_safe_id(session_id)):
        raise fault("cursor", "must be a next_cursor of this list")
    return Position(int(us), session_id)
