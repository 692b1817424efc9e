"""Heads and turns as the rows of a database server: MessagePack around content that may be encrypted (`payloads`).

Rows are arrays. A later version may add fields at their end, with defaults, and still reads what an earlier one wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from rayflow.chat import Usage
from rayflow.messages import SessionInfo, Turn
from rayflow.stores.payloads import Payloads
from rayflow.stores.sealing import KEY_ID_BYTES, VERSION, Log

Key = tuple[str, str]
"""Tenant and session id."""

WRAPPER_BYTES = len(VERSION) + KEY_ID_BYTES
"""How many first bytes of a wrapped data key tell which key wrapped it."""


class _HeadRow(msgspec.Struct, array_like=True, frozen=True):
    user_id: str
    created_us: int
    updated_us: int
    turns: int
    version: int
    closed_us: int
    parent: str
    branch_id: str
    forked_at: int
    key: bytes
    content: bytes


class _TurnRow(msgspec.Struct, array_like=True, frozen=True):
    seq: int
    role: str
    run_id: str
    agent: str
    partial: bool
    created_us: int
    usage: Usage | None
    digest: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a session and its wrapped data key, which is empty without encryption."""

    info: SessionInfo
    key: bytes = b""

    @property
    def of(self) -> Key:
        return self.info.tenant, self.info.session_id

    @property
    def log(self) -> Log:
        return Log(self.info.tenant, self.info.session_id, self.key)

    @property
    def wrapper(self) -> bytes:
        """Which key wraps the data key; empty where none does."""
        return self.key[:WRAPPER_BYTES]


class Rows:
    """Encodes and decodes rows. Decoding raises `StorageError` where content was damaged, or its key is not here."""

    def __init__(self, payloads: Payloads) -> None:
        self.payloads = payloads
        self._encode = msgspec.msgpack.Encoder().encode
        self._head = msgspec.msgpack.Decoder(_HeadRow).decode
        self._turn = msgspec.msgpack.Decoder(_TurnRow).decode

    @property
    def wrapper(self) -> bytes:
        """The `Head.wrapper` of sessions that need not be rekeyed."""
        return self.payloads.new_key("", "")[:WRAPPER_BYTES]

    def pack_head(self, head: Head) -> bytes:
        info = head.info
        return self._encode(
            _HeadRow(
                info.user_id,
                info.created_us,
                info.updated_us,
                info.turns,
                info.version,
                info.closed_us,
                info.parent_conversation_id,
                info.branch_id,
                info.forked_at,
                head.key,
                self.payloads.pack_head(head.log, info.title, info.metadata),
            )
        )

    def head(self, key: Key, row: bytes) -> Head:
        tenant, session_id = key
        found = self._head(row)
        content = self.payloads.head(Log(tenant, session_id, found.key), found.content)
        info = SessionInfo(
            session_id,
            tenant,
            found.user_id,
            found.created_us,
            found.updated_us,
            found.turns,
            content.metadata,
            content.title,
            found.version,
            found.closed_us,
            found.parent,
            found.branch_id,
            found.forked_at,
        )
        return Head(info, found.key)

    def pack_turn(self, log: Log, turn: Turn) -> bytes:
        message = self.payloads.pack_message(log, turn.seq, turn.message)
        return self._encode(
            _TurnRow(
                turn.seq,
                turn.message.role,
                turn.run_id,
                turn.agent,
                turn.partial,
                turn.created_us,
                turn.usage,
                turn.digest,
                message,
            )
        )

    def turn(self, log: Log, row: bytes) -> Turn:
        found = self._turn(row)
        message = self.payloads.message(log, found.seq, found.message)
        return Turn(
            found.seq, message, found.run_id, found.agent, found.partial, found.created_us, found.usage, found.digest
        )
