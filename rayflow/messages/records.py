"""Records: whoever keeps something small -> session stores.

A record is a small named value of an owner: of a session, a user, a tenant as a whole, or a part of the kept results.
All records of an owner lie in one shard, those of a session beside it, so that they are written together and go when
the session goes. Who uses a `kind` decides what the bytes of its values mean.
"""

from __future__ import annotations

import msgspec

from rayflow.messages.base import Payload

TENANT = "tenant/"
"""The owner of what belongs to a tenant as a whole."""

SESSION = "session/"
USER = "user/"
RESULTS = "results/"
QUEUE = "queue/"
"""The owner of the runs that wait, of all tenants."""

ANSWERED = "answered/"

MAX_VALUE_BYTES = 1 << 20
MAX_WRITES = 1000
MAX_WRITE_BYTES = 16 << 20
"""All values of one `WriteRecords` together."""

MAX_READ_BYTES = 8 << 20
"""A reply ends after the record that reaches this."""


def of_session(session_id: str) -> str:
    """The owner of what belongs to a session."""
    return SESSION + session_id


def of_answered(session_id: str) -> str:
    """The owner of the answers that are remembered when the session has expired. They lie where it lay."""
    return ANSWERED + session_id


def of_user(user_id: str) -> str:
    """The owner of what belongs to a user."""
    return USER + user_id


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """`version` counts the writes since it was made, from 1. `expires_us`: from when it is not there; 0 for never."""

    kind: str
    name: str
    value: bytes
    version: int = 1
    created_us: int = 0
    updated_us: int = 0
    expires_us: int = 0


class ReadRecords(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `Records` of one owner and kind, in the order of their names, byte by byte.

    `names`: only these; those that are not there are left out. `after`: only names behind this one. Nothing to read is
    fine.
    """

    tenant: str
    owner: str
    kind: str
    names: list[str] = []
    after: str = ""
    limit: int = 100


class Records(Payload, frozen=True, tag=True):
    """`more`: whether others follow; ask again with the last name as `after`."""

    records: list[Record]
    more: bool = False


class RecordWrite(msgspec.Struct, frozen=True, omit_defaults=True):
    """Set one record, or delete it where `value` is None; to delete what is not there is fine.

    `expected_version`: the version the writer has read, 0 where it must not be there; None: whatever it is.
    """

    kind: str
    name: str
    value: bytes | None
    expected_version: int | None = None
    expires_us: int = 0


class WriteRecords(Payload, frozen=True, omit_defaults=True, tag=True):
    """Change records of one owner, all or none. Reply: `Written`, when it is durable.

    Fails with `Conflict`, whose details have `kind`, `name` and `version`, where a record has another version than
    expected, and with `ValidationError` for a value over 1 MiB, more than 1,000 writes, values of more than 16 MiB
    together, or a record that is written twice.
    """

    tenant: str
    owner: str
    writes: list[RecordWrite]


class Written(Payload, frozen=True, tag=True):
    """The version of each record now, in the order of the writes; 0 for what was deleted."""

    versions: list[int]


class EraseRecords(Payload, frozen=True, omit_defaults=True, tag=True):
    """Delete all records of an owner, or those of one kind. Reply: `ErasedRecords`; nothing to erase is fine."""

    tenant: str
    owner: str
    kind: str = ""


class ErasedRecords(Payload, frozen=True, tag=True):
    records: int


class OwnedRecord(msgspec.Struct, frozen=True):
    tenant: str
    owner: str
    record: Record


class ListRecords(Payload, frozen=True, omit_defaults=True, tag=True):
    """Reply: `RecordList` of one shard, in the order of tenant, owner, kind and name. For export and migration, never
    for a tenant.

    `tenant`: only this one's; None for all. `owner`: only this one's; empty for all. `after`: only what is behind the
    place of this record.
    """

    tenant: str | None = None
    owner: str = ""
    after: tuple[str, str, str, str] | None = None
    limit: int = 100


class RecordList(Payload, frozen=True, tag=True):
    records: list[OwnedRecord]
    more: bool = False


class ImportRecords(Payload, frozen=True, tag=True):
    """Records of one owner from elsewhere, with their versions and times as they were. Reply: `Ack`.

    A record that is there already with the same or a higher version stays as it is, so an import that was cut is simply
    made again.
    """

    tenant: str
    owner: str
    records: list[Record]
