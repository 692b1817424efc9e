"""What a batch does to records, worked out in memory like the rest of it (`draft`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from rayflow.messages import Record
from rayflow.stores.payloads import Payloads
from rayflow.stores.records.rules import Standing, standing
from rayflow.stores.sealing import Log, RecordPlace
from rayflow.stores.servers.rows import WRAPPER_BYTES, Key


class Spot(NamedTuple):
    """Where a record lies."""

    tenant: str
    owner: str
    kind: str
    name: str

    @property
    def of(self) -> Key:
        return self.tenant, self.owner


class Kind(NamedTuple):
    """All records of one kind that an owner has."""

    tenant: str
    owner: str
    kind: str


class Expired(NamedTuple):
    """At most `limit` records that have expired."""

    now_us: int
    limit: int


class Owner(NamedTuple):
    """Who has records, how many, and their wrapped data key, which is empty without encryption."""

    log: Log
    size: int

    @property
    def of(self) -> Key:
        return self.log.tenant, self.log.session_id

    @property
    def wrapper(self) -> bytes:
        return self.log.key[:WRAPPER_BYTES]


@dataclass(slots=True)
class RecordNeeds:
    """What must be read before a batch can be decided. With a record its owner is read too."""

    owners: set[Key] = field(default_factory=set)
    records: set[Spot] = field(default_factory=set)
    kinds: set[Kind] = field(default_factory=set)
    expired: set[Expired] = field(default_factory=set)
    stale: int = 0
    """So many owners that must be rekeyed, with their records where they are not encrypted."""

    def add(self, other: RecordNeeds) -> None:
        self.owners |= other.owners
        self.records |= other.records
        self.kinds |= other.kinds
        self.expired |= other.expired
        self.stale = max(self.stale, other.stale)

    def names(self) -> Iterable[str]:
        for each in (*self.owners, *self.records, *self.kinds):
            yield from each


@dataclass(slots=True)
class FoundRecords:
    owners: dict[Key, Owner] = field(default_factory=dict)
    records: dict[Spot, Standing] = field(default_factory=dict)
    expired: dict[Expired, list[Spot]] = field(default_factory=dict)
    stale: list[Key] = field(default_factory=list)
    plain: dict[Key, list[Record]] = field(default_factory=dict)
    """All records of the stale owners that are not encrypted."""


class RecordRow(NamedTuple):
    """A record as it is stored: `value` may be encrypted."""

    record: Record
    value: bytes


@dataclass(slots=True)
class RecordChange:
    """In this order: `dropped` owners go with all they have, `owners` and then records are written; None deletes one.
    `before`: the owners that are replaced."""

    dropped: dict[Key, Owner] = field(default_factory=dict)
    owners: dict[Key, Owner] = field(default_factory=dict)
    before: dict[Key, Owner] = field(default_factory=dict)
    records: dict[Spot, RecordRow | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.dropped or self.owners or self.records)


class RecordDraft:
    """The records of a batch as they will be. It knows those that the batch's needs named."""

    def __init__(self, found: FoundRecords, payloads: Payloads) -> None:
        self.found = found
        self.change = RecordChange()
        self._payloads = payloads
        self._owners = dict(found.owners)
        self._records = dict(found.records)

    def owner(self, key: Key) -> Owner | None:
        return self._owners.get(key)

    def standing(self, spot: Spot) -> Standing | None:
        return self._records.get(spot)

    def of_kind(self, kind: Kind) -> list[Spot]:
        """All records of a kind that the needs named."""
        return [spot for spot in self._records if spot[:3] == kind]

    def put(self, key: Key, record: Record) -> None:
        owner = self._owners.get(key) or Owner(Log(*key, self._payloads.new_key(*key)), 0)
        spot = Spot(*key, record.kind, record.name)
        self.change.records[spot] = self._row(owner, record)
        if spot not in self._records:
            self._write(owner._replace(size=owner.size + 1))
        self._records[spot] = standing(record)

    def remove(self, spot: Spot) -> None:
        """Delete a record. An owner without records has no key: what copies of them are left cannot be read."""
        if self._records.pop(spot, None) is not None:
            owner = self._owners[spot.of]
            if owner.size == 1:
                self.drop(spot.of)
            else:
                self._write(owner._replace(size=owner.size - 1))
        self.change.records[spot] = None

    def drop(self, key: Key) -> int:
        """Delete all records of an owner whom the needs named. Returns how many."""
        owner = self._owners.pop(key, None)
        if owner is None:
            return 0
        self._records = {spot: there for spot, there in self._records.items() if spot.of != key}
        change = self.change
        change.records = {spot: row for spot, row in change.records.items() if spot.of != key}
        change.owners.pop(key, None)
        change.before.pop(key, None)
        if key in self.found.owners:
            change.dropped[key] = self.found.owners[key]
        return owner.size

    def rekey(self, key: Key) -> bool:
        """Wrap the data key of an owner anew, or encrypt its records. False where there is no need."""
        owner = self._owners.get(key)
        if owner is None or not self._payloads.stale(owner.log.key):
            return False
        log = owner.log
        new = log._replace(key=self._payloads.rewrap(log) if log.key else self._payloads.new_key(*key))
        plain = [] if log.key else [*self._unchanged(key), *self._fresh(key)]
        owner = owner._replace(log=new)
        self._write(owner)
        for record in plain:
            spot = Spot(*key, record.kind, record.name)
            self.change.records[spot] = self._row(owner, record)
            self._records[spot] = standing(record)
        return True

    def _unchanged(self, key: Key) -> list[Record]:
        stored = self.found.plain.get(key, []) if key not in self.change.dropped else []
        return [record for record in stored if Spot(*key, record.kind, record.name) not in self.change.records]

    def _fresh(self, key: Key) -> list[Record]:
        return [row.record for spot, row in self.change.records.items() if spot.of == key and row is not None]

    def _write(self, owner: Owner) -> None:
        key = owner.of
        self._owners[key] = self.change.owners[key] = owner
        if key in self.found.owners and key not in self.change.dropped:
            self.change.before[key] = self.found.owners[key]

    def _row(self, owner: Owner, record: Record) -> RecordRow:
        place = RecordPlace(record.kind, record.name, record.version)
        return RecordRow(record, self._payloads.pack_record(owner.log, place, record.value))
