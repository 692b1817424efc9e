"""Sessions: routers and clients -> session stores.

A session is a numbered log of turns with a head of facts. Turns are only ever added; what the head says may change, and
counts its changes in `version`. A fork shares the turns of its parent up to the one where it left it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rayflow.chat import Message, Usage
from rayflow.messages.base import Payload


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One durable entry of a session. `seq` counts from 1 within the session.

    `partial`: the answer was cut (cancelled, disconnected, failed) after some of it was shown; this is what was shown.
    `usage`: what the answer cost, where known.
    """

    seq: int
    message: Message
    run_id: str = ""
    agent: str = ""
    partial: bool = False
    created_us: int = 0
    usage: Usage | None = None
    digest: str = ""
    """As in `AppendTurns`."""


class SessionInfo(Payload, frozen=True, omit_defaults=True, tag=True):
    """The head of a session.

    `version` counts the changes of title and metadata. `closed_us`: since when it takes no more turns; 0 while it does.
    A fork names its parent, the turn after which it went its own way, and, for people, its branch.
    """

    session_id: str
    tenant: str = ""
    user_id: str = ""
    created_us: int = 0
    updated_us: int = 0
    turns: int = 0
    metadata: dict[str, Any] = {}
    title: str = ""
    version: int = 1
    closed_us: int = 0
    parent_conversation_id: str = ""
    branch_id: str = ""
    forked_at: int = 0


class CreateSession(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `SessionInfo`. Fails with `Conflict` where the id is taken; with `get_or_create` that session is the
    reply."""

    tenant: str
    session_id: str
    user_id: str = ""
    metadata: dict[str, Any] = {}
    title: str = ""
    get_or_create: bool = False


class GetSession(Payload, frozen=True, tag=True):
    """Reply: `SessionInfo`, or `NotFound`."""

    tenant: str
    session_id: str


class UpdateSession(Payload, frozen=True, omit_defaults=True, tag=True):
    """Change title and metadata. Reply: `SessionInfo`, or `NotFound`.

    `metadata` is merged into what is there, key by key at the top; None removes a key. `title`: None leaves it.
    `expected_version`: the version the caller has read; another one fails with `Conflict`. 0: whatever it is.
    """

    tenant: str
    session_id: str
    title: str | None = None
    metadata: dict[str, Any] = {}
    expected_version: int = 0


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


class Position(msgspec.Struct, frozen=True, order=True):
    """Where a session stands in a list: by its beginning, which never changes, then by its id."""

    created_us: int
    session_id: str


class ListSessions(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `SessionList` of one shard: sessions of a tenant, newest first, that come after position `after`.

    In descending order of `Position`, ids compared byte by byte, so that the lists of several shards merge into one.
    `user_id`: only this user's; empty for everyone's.
    """

    tenant: str
    user_id: str = ""
    limit: int = 100
    after: Position | None = None


class SessionList(Payload, frozen=True, tag=True):
    """Fewer than `limit` sessions are the last ones."""

    sessions: list[SessionInfo]


class ListTenants(Payload, frozen=True, tag=True):
    """Reply: `Tenants`. For the operator's commands, never for a tenant."""


class Tenants(Payload, frozen=True, tag=True):
    """Who has sessions in this shard, sorted."""

    names: list[str]


class ForkSession(Payload, frozen=True, omit_defaults=True, tag=True):
    """Begin another session with the turns of this one up to number `at` (-1: all). Reply: `SessionInfo` of the child.

    The child belongs to the same user and starts with the parent's title and metadata. What either gets afterwards is
    its own; deleting the parent takes nothing from the child. A fork lives in its parent's shard, so `child_id` must
    belong there. Fails with `NotFound`, with `Conflict` where `child_id` is taken, and with `ValidationError` where
    there is no turn `at`. `branch_id`: a name for people; the child's id where empty.
    """

    tenant: str
    session_id: str
    child_id: str
    at: int = -1
    branch_id: str = ""


class CloseSession(Payload, frozen=True, tag=True):
    """Take no more turns; everything stays readable. Reply: `SessionInfo`, or `NotFound`. Closing twice is fine."""

    tenant: str
    session_id: str


class LockSession(Payload, frozen=True, omit_defaults=True, tag=True):
    """Keep runs of others from beginning in a session. Reply: `SessionLock`, or `NotFound`.

    Waits up to `wait_s` for a lock of somebody else, then fails with `SessionLocked`. `token`: of a lock that its
    holder renews; `NotFound` where it is held no more. It ends after `lease_s` unless it is renewed.
    """

    tenant: str
    session_id: str
    lease_s: float = 10.0
    wait_s: float = 0.0
    token: str = ""


class SessionLock(Payload, frozen=True, tag=True):
    """Whoever shows the token holds the lock."""

    token: str
    lease_s: float


class UnlockSession(Payload, frozen=True, tag=True):
    """Reply: `Ack`, or `NotFound` where this lock is held no more."""

    tenant: str
    session_id: str
    token: str


class DeleteSession(Payload, frozen=True, tag=True):
    """Delete a session with its records. Reply: `Ack`, or `NotFound`."""

    tenant: str
    session_id: str


class EraseUser(Payload, frozen=True, tag=True):
    """Delete all sessions and records of a user of a tenant in this shard. Reply: `Erased`; nothing to erase is
    fine."""

    tenant: str
    user_id: str


class Erased(Payload, frozen=True, omit_defaults=True, tag=True):
    """`records`: those of the user; those of the sessions go with them uncounted."""

    sessions: int
    records: int = 0


class AppendTurns(Payload, frozen=True, omit_defaults=True, tag=True):
    """Make messages durable at the end of a session, making the session where it is new. Reply: `Appended`, after
    fsync.

    `expected_seq`: the last number the caller knows, or -1 for "whatever it is"; another one fails with `Conflict`,
    and a session that is gone with `NotFound`. A closed session fails with `Conflict`.
    `window`: also return the last so many turns from before this append (0: none).
    `usage` belongs to the last of the messages.
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
    partial: bool = False
    usage: Usage | None = None
    digest: str = ""
    """Of the request that the messages came with, where its client may repeat it (Idempotency-Key): kept with each of
    them. An append with the `run_id` of turns that have another digest fails with `KeyReused`, and one with a digest
    is recognised as a repetition however many turns follow."""
    lock: str = ""
    """Token of the lock that the caller holds. Without it the question of a run fails with `SessionLocked` while
    somebody has locked the session."""


class Appended(Payload, frozen=True, omit_defaults=True, tag=True):
    last_seq: int
    created: bool = False
    window: list[Turn] = []
    answer: Turn | None = None
    """Where the append was a repetition: the answer that its run has committed already."""
    version: int = 1
    """Of the session, as in `SessionInfo`: another one than before means that title or metadata were changed."""


class RollBackRun(Payload, frozen=True, tag=True):
    """Take back what a run has appended, as if it had never been asked. Reply: `SessionInfo`, or `NotFound`.

    Only the end of a log can be taken back: `Conflict` where turns of others follow. A run without turns is fine.
    """

    tenant: str
    session_id: str
    run_id: str


class ImportSession(Payload, frozen=True, omit_defaults=True, tag=True):
    """One page of a session from elsewhere, with its numbers, times and agents as they were. Reply: `SessionInfo` as it
    stands now.

    The first page makes the session with the facts of `info`; `turns` go on where it stands, and those it has already
    are skipped, so an import that was cut is simply made again. Fails with `Conflict` where the id belongs to a session
    that began at another time, and with `ValidationError` where turns are missing in between. A fork is imported with
    all its turns as its own.
    """

    info: SessionInfo
    turns: list[Turn] = []


class RekeySessions(Payload, frozen=True, tag=True):
    """Wrap the data keys of some sessions and of some owners of records anew, with the present key. Reply: `Rekeyed`.
    Ask again until both are 0."""


class Rekeyed(Payload, frozen=True, omit_defaults=True, tag=True):
    sessions: int
    owners: int = 0
