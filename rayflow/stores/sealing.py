"""Encryption of what is stored: AES-256-GCM in envelopes.

Each session has a random data key, which encrypts its turns and its head; the data key is stored beside the session,
wrapped (encrypted) by the operator's key, under the id of that key. So a new key means wrapping the data keys anew and
no turn, and to delete a session is to delete the only key to whatever copies of its turns are left on a disk.

What a box is for is authenticated with it (associated data: tenant, session, sequence number): whoever can write to the
store can neither change a turn nor move it to another place, session or tenant. NIST SP 800-38D; the random 96-bit
nonces stay far below its limit of 2^32 boxes per key, because every session has its own.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from rayflow.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
KEY_ID_BYTES = 8
NONCE_BYTES = 12
VERSION = b"\x01"
"""First byte of every box and every wrapped key. JSON never begins with it."""

CACHED_KEYS = 4096
"""Unwrapped data keys at hand."""

DRAWN_NONCES = 256
"""Random numbers that are drawn at once."""
_nonces: list[bytes] = []
os.register_at_fork(after_in_child=_nonces.clear)  # no two processes may have the same ones


class KeyId(bytes):
    """Which key wrapped a data key: the beginning of its hash, which says nothing about a random key."""

    def __str__(self) -> str:
        return self.hex()


class Log(NamedTuple):
    """Whose boxes they are. `session_id`: under which id they were written, also where a fork reads them; for records
    their owner, which no session id can be. `key`: the wrapped data key; empty where nothing is encrypted."""

    tenant: str
    session_id: str
    key: bytes


class RecordPlace(NamedTuple):
    """Which box of an owner a record is."""

    kind: str
    name: str
    version: int


Place = int | RecordPlace
"""Which box of a log one is: that of a turn by its number, of the head (0), the wrapped data key (-1), or a record."""


class _DataKey(NamedTuple):
    """`whose`: the beginning of what is authenticated with its boxes."""

    aead: AESGCM
    whose: bytes


class Sealer:
    """`keys`: the present key first, then earlier ones, which only open. Each has 32 bytes."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        aead = _aead()
        self._wrappers = {_key_id(key): aead(key) for key in keys}
        self._present = _key_id(keys[0])
        self._data_keys: OrderedDict[Log, _DataKey] = OrderedDict()

    @property
    def present(self) -> KeyId:
        return self._present

    def new_key(self, tenant: str, session_id: str) -> bytes:
        """A new data key, wrapped."""
        return self._wrap(os.urandom(KEY_BYTES), tenant, session_id)

    def stale(self, wrapped: bytes) -> bool:
        """Whether another than the present key wraps it, or none because nothing is encrypted."""
        return _wrapped_by(wrapped) != self._present

    def rewrap(self, log: Log) -> bytes:
        """The same data key, wrapped by the present key. Raises `StorageError`."""
        return self._wrap(self._unwrap(log), log.tenant, log.session_id)

    def seal(self, log: Log, seq: Place, plain: bytes) -> bytes:
        aead, whose = self._data_keys.get(log) or self._data_key(log)
        nonce = _nonce()
        return VERSION + nonce + aead.encrypt(nonce, plain, _about(whose, seq))

    def open(self, log: Log, seq: Place, box: bytes) -> bytes:
        """What was sealed. Raises `StorageError` where the box was changed or belongs elsewhere, or its key is not
        here."""
        from cryptography.exceptions import InvalidTag

        nonce, sealed = box[1 : 1 + NONCE_BYTES], box[1 + NONCE_BYTES :]
        try:
            if box[:1] != VERSION or len(sealed) < 16:
                raise InvalidTag
            key = self._data_key(log)
            return key.aead.decrypt(nonce, sealed, _about(key.whose, seq))
        except InvalidTag:
            raise damaged(log, seq) from None

    def _data_key(self, log: Log) -> _DataKey:
        """Found again by its wrapping, together with whose it is: a key in a foreign place must not be opened there
        only because it is at hand."""
        found = self._data_keys.get(log)
        if found is None:
            found = _DataKey(_aead()(self._unwrap(log)), _prefix(log.tenant, log.session_id))
            if len(self._data_keys) >= CACHED_KEYS:
                self._data_keys.popitem(last=False)
            self._data_keys[log] = found
        return found

    def _wrap(self, data_key: bytes, tenant: str, session_id: str) -> bytes:
        nonce = _nonce()
        sealed = self._wrappers[self._present].encrypt(nonce, data_key, _about(_prefix(tenant, session_id), -1))
        return VERSION + self._present + nonce + sealed

    def _unwrap(self, log: Log) -> bytes:
        from cryptography.exceptions import InvalidTag

        by = _wrapped_by(log.key)
        wrapper = self._wrappers.get(by)
        if wrapper is None:
            known = ", ".join(str(key) for key in self._wrappers)
            raise StorageError(
                f"key {by} encrypts {whose(log)}, and session.encryption has {known}: add the"
                " right one under session.encryption.previous; nothing was changed",
                session_id=log.session_id,
                key=str(by),
            )
        start = len(VERSION) + KEY_ID_BYTES
        nonce, sealed = log.key[start : start + NONCE_BYTES], log.key[start + NONCE_BYTES :]
        try:
            return wrapper.decrypt(nonce, sealed, _about(_prefix(log.tenant, log.session_id), -1))
        except (InvalidTag, ValueError):  # the latter where it is too short
            raise damaged(log, -1) from None


def whose(log: Log) -> str:
    """For messages: a session, or the records of an owner."""
    return f"the records of {log.session_id}" if "/" in log.session_id else f"session {log.session_id}"


def damaged(log: Log, seq: Place) -> StorageError:
    """What stands in the store is not what was written there. `seq` as in the associated data."""
    match seq:
        case RecordPlace(kind, name):
            what = f"record {kind}/{name} of {log.session_id}"
        case -1:
            what = f"the data key of {whose(log)}"
        case 0:
            what = f"the head of {whose(log)}"
        case _:
            what = f"turn {seq} of {whose(log)}"
    return StorageError(
        f"{what} is not what was written there: it was damaged, changed or moved in the store; restore it from a"
        " backup, or delete it",
        session_id=log.session_id,
        seq=seq if isinstance(seq, int) else seq.name,
    )


def _key_id(key: bytes) -> KeyId:
    return KeyId(sha256(b"rayflow key\0" + key).digest()[:KEY_ID_BYTES])


def _wrapped_by(wrapped: bytes) -> KeyId:
    return KeyId(wrapped[len(VERSION) : len(VERSION) + KEY_ID_BYTES])


def _prefix(tenant: str, session_id: str) -> bytes:
    return b"\0".join((tenant.encode(), session_id.encode(), b""))


def _about(whose: bytes, seq: Place) -> bytes:
    """The associated data. A turn has its number, the head 0, the data key -1, a record its kind, name and version."""
    if isinstance(seq, int):
        return whose + b"%d" % seq
    return whose + b"\0".join((seq.kind.encode(), seq.name.encode(), b"%d" % seq.version))


def _nonce() -> bytes:
    """Twelve random bytes. They are drawn many at a time: a system call costs as much as to encrypt a short message."""
    while True:
        try:
            return _nonces.pop()
        except IndexError:
            drawn = os.urandom(NONCE_BYTES * DRAWN_NONCES)
            _nonces.extend(drawn[i : i + NONCE_BYTES] for i in range(0, len(drawn), NONCE_BYTES))


def _aead() -> type[AESGCM]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise ConfigurationError(
            "session.encryption needs the package cryptography: pip install 'rayflow[encryption]'",
            key="session.encryption",
        ) from None
    return AESGCM
