"""The rules of records that do not depend on where they are stored: what is refused, and what a write makes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from rayflow.errors import Conflict, ValidationError
from rayflow.messages import OwnedRecord, ReadRecords, Record, RecordWrite, WriteRecords
from rayflow.messages.records import (
    ANSWERED,
    MAX_READ_BYTES,
    MAX_VALUE_BYTES,
    MAX_WRITE_BYTES,
    MAX_WRITES,
    QUEUE,
    RESULTS,
    SESSION,
    TENANT,
    USER,
)

MAX_NAME_BYTES = 512
"""Of an owner, a kind or a name."""

ALONE = (TENANT, QUEUE)
PREFIXES = (SESSION, ANSWERED, USER, RESULTS)

T = TypeVar("T", Record, OwnedRecord)


class Standing(NamedTuple):
    """What of a record decides about a write."""

    version: int
    created_us: int
    expires_us: int


def standing(record: Record) -> Standing:
    return Standing(record.version, record.created_us, record.expires_us)


def check_read(request: ReadRecords) -> None:
    """Raises `ValidationError` for what no store answers."""
    check_owner(request.owner)
    if len(request.names) > MAX_WRITES:
        raise ValidationError(f"{len(request.names)} names at once are over the limit of {MAX_WRITES}", param="names")


def check_write(request: WriteRecords) -> None:
    """Raises `ValidationError` for what no store takes."""
    check_owner(request.owner)
    if len(request.writes) > MAX_WRITES:
        raise ValidationError(
            f"{len(request.writes)} records at once are over the limit of {MAX_WRITES}: write them in parts",
            param="writes",
        )
    total, seen = 0, set[tuple[str, str]]()
    for write in request.writes:
        check_name("kind", write.kind)
        check_name("name", write.name)
        if (write.kind, write.name) in seen:
            raise ValidationError(f"record {write.kind}/{write.name} is written twice at once", param="writes")
        seen.add((write.kind, write.name))
        size = len(write.value or b"")
        total += size
        if size > MAX_VALUE_BYTES:
            raise ValidationError(
                f"the value of record {write.kind}/{write.name} has {size} bytes, over the limit of {MAX_VALUE_BYTES}",
                param="value",
            )
    if total > MAX_WRITE_BYTES:
        raise ValidationError(
            f"the values have {total} bytes together, over the limit of {MAX_WRITE_BYTES}: write them in parts",
            param="writes",
        )


def check_owner(owner: str) -> None:
    check_name("owner", owner)
    if owner not in ALONE and not any(owner.startswith(p) and owner != p for p in PREFIXES):
        raise ValidationError(
            f"{owner!r} owns no records: an owner is session/<id>, answered/<session id>, user/<id>, results/<part>,"
            " tenant/ or queue/",
            param="owner",
        )


def check_name(what: str, name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_NAME_BYTES or "\0" in name:
        raise ValidationError(
            f"the {what} of a record has 1 to {MAX_NAME_BYTES} bytes of UTF-8 and no NUL: {name[:100]!r}", param=what
        )


def written(before: Standing | None, write: RecordWrite, now_us: int) -> Record | None:
    """What becomes of a record; None: it is not there. `before`: as it stands, expired or not. Raises `Conflict`."""
    if before is not None and not alive(before.expires_us, now_us):
        before = None
    version = before.version if before else 0
    if write.expected_version not in (None, version):
        there = f"has version {version}" if version else "is not there"
        hoped = f"version {write.expected_version}" if write.expected_version else "absent"
        raise Conflict(
            f"record {write.kind}/{write.name} {there}, and was taken to be {hoped}: read it again",
            kind=write.kind,
            name=write.name,
            version=version,
        )
    if write.value is None:
        return None
    created_us = before.created_us if before else now_us
    return Record(write.kind, write.name, write.value, version + 1, created_us, now_us, write.expires_us)


def newer(imported: Record, before: Standing | None) -> bool:
    """Whether an imported record takes the place of what is there."""
    return before is None or imported.version > before.version


def alive(expires_us: int, now_us: int) -> bool:
    return not expires_us or expires_us > now_us


class Page(Generic[T]):
    """The records of one reply, and whether others follow (`more`)."""

    def __init__(self, limit: int) -> None:
        self.records: list[T] = []
        self.more = False
        self._limit = limit
        self._size = 0

    def add(self, each: T) -> bool:
        """False, and not added, where the reply is full."""
        self.more = len(self.records) == self._limit or self._size >= MAX_READ_BYTES
        if not self.more:
            self.records.append(each)
            self._size += len(each.record.value if isinstance(each, OwnedRecord) else each.value)
        return not self.more


def taken(records: Iterable[T], limit: int) -> tuple[list[T], bool]:
    """The first page of records, and whether others follow."""
    page = Page[T](limit)
    for each in records:
        if not page.add(each):
            break
    return page.records, page.more
