"""How the content of a session becomes bytes in a store, and back: JSON, encrypted or not. The same for every store.

Content is what people and models said, titles and metadata. What a store must find sessions by (ids, users, times,
numbers, run ids, agents, token counts) stays readable. Both kinds of bytes may lie side by side, because encryption can
be switched on for a store that has sessions already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from rayflow.chat import Message
from rayflow.errors import StorageError
from rayflow.stores.sealing import Log, Place, RecordPlace, Sealer, damaged, whose

T = TypeVar("T")

HEAD = 0
"""The sequence number under which the head of a session is sealed; turns count from 1."""


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a session's head that is content."""

    title: str = ""
    metadata: dict[str, Any] = {}


class Payloads:
    """`sealer`: None stores plain JSON, and refuses what is encrypted with a `StorageError`."""

    def __init__(self, sealer: Sealer | None = None) -> None:
        self._sealer = sealer
        self._encode = msgspec.json.Encoder().encode
        self._message = msgspec.json.Decoder(Message).decode
        self._head = msgspec.json.Decoder(Head).decode

    def new_key(self, tenant: str, session_id: str) -> bytes:
        """What to keep beside a new session, as the `key` of its `Log`; empty without encryption."""
        return b"" if self._sealer is None else self._sealer.new_key(tenant, session_id)

    def stale(self, key: bytes) -> bool:
        """Whether a session with this key has to be rekeyed: `rewrap` it, or encrypt it where it is empty."""
        return self._sealer is not None and self._sealer.stale(key)

    def rewrap(self, log: Log) -> bytes:
        return b"" if self._sealer is None else self._sealer.rewrap(log)

    def pack_message(self, log: Log, seq: int, message: Message) -> bytes:
        return self._pack(log, seq, self._encode(message))

    def message(self, log: Log, seq: int, stored: bytes) -> Message:
        return self._decoded(self._message, log, seq, stored)

    def pack_head(self, log: Log, title: str, metadata: dict[str, Any]) -> bytes:
        return self._pack(log, HEAD, self._encode(Head(title, metadata)))

    def head(self, log: Log, stored: bytes) -> Head:
        return self._decoded(self._head, log, HEAD, stored)

    def seal(self, log: Log, seq: int, stored: bytes) -> bytes:
        """Encrypt what was stored before the session had its key."""
        return self._pack(log, seq, stored) if stored.startswith(b"{") else stored

    def pack_record(self, log: Log, place: RecordPlace, value: bytes) -> bytes:
        return self._pack(log, place, value)

    def record(self, log: Log, place: RecordPlace, stored: bytes) -> bytes:
        return self._plain(log, place, stored)

    def _pack(self, log: Log, seq: Place, plain: bytes) -> bytes:
        if not log.key:
            return plain
        return self._unlocked(log).seal(log, seq, plain)

    def _plain(self, log: Log, seq: Place, stored: bytes) -> bytes:
        if not log.key:
            return stored
        return self._unlocked(log).open(log, seq, stored)

    def _decoded(self, decode: Callable[[bytes], T], log: Log, seq: int, stored: bytes) -> T:
        try:
            return decode(self._plain(log, seq, stored))
        except msgspec.DecodeError as error:
            raise damaged(log, seq) from error

    def _unlocked(self, log: Log) -> Sealer:
        if self._sealer is None:
            raise StorageError(
                f"a key encrypts {whose(log)}, and session.encryption is not configured: set it; nothing was changed",
                session_id=log.session_id,
            )
        return self._sealer


PLAIN = Payloads()
