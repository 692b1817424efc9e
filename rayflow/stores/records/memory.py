"""Records in memory. Bounded, and lost with the process."""

from __future__ import annotations

from collections import OrderedDict

from rayflow.messages import (
    ErasedRecords,
    EraseRecords,
    ImportRecords,
    ListRecords,
    OwnedRecord,
    ReadRecords,
    Record,
    RecordList,
    Records,
    WriteRecords,
    Written,
)
from rayflow.stores.records import rules

Named = dict[tuple[str, str], Record]
"""The records of an owner, by kind and name."""


class MemoryRecords:
    """`limit`: owners whose records are kept; those of the one written longest ago are dropped beyond it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._owners: OrderedDict[tuple[str, str], Named] = OrderedDict()

    def read(self, request: ReadRecords, now_us: int) -> Records:
        rules.check_read(request)
        theirs = self._owners.get((request.tenant, request.owner), {})
        names = request.names or [name for kind, name in theirs if kind == request.kind]
        found = (theirs.get((request.kind, name)) for name in sorted(set(names)) if name > request.after)
        alive = (record for record in found if record and rules.alive(record.expires_us, now_us))
        return Records(*rules.taken(alive, request.limit))

    def write(self, request: WriteRecords, now_us: int) -> Written:
        rules.check_write(request)
        key = (request.tenant, request.owner)
        theirs = self._owners.get(key, {})
        after: dict[tuple[str, str], Record | None] = {}
        for write in request.writes:
            before = theirs.get((write.kind, write.name))
            after[write.kind, write.name] = rules.written(rules.standing(before) if before else None, write, now_us)
        self._keep(key, {place: record for place, record in {**theirs, **after}.items() if record is not None})
        return Written([record.version if record else 0 for record in after.values()])

    def erase(self, request: EraseRecords) -> ErasedRecords:
        key = (request.tenant, request.owner)
        theirs = self._owners.get(key, {})
        left = {place: record for place, record in theirs.items() if request.kind not in ("", place[0])}
        self._keep(key, left)
        return ErasedRecords(len(theirs) - len(left))

    def drop(self, tenant: str, owner: str) -> int:
        """Delete all records of an owner. Returns how many."""
        return len(self._owners.pop((tenant, owner), ()))

    def list(self, request: ListRecords) -> RecordList:
        found = sorted(
            (*of, *place)
            for of, theirs in self._owners.items()
            for place in theirs
            if request.tenant in (None, of[0]) and request.owner in ("", of[1])
        )
        rest = (place for place in found if request.after is None or place > request.after)
        owned = (OwnedRecord(*place[:2], self._owners[place[:2]][place[2:]]) for place in rest)
        return RecordList(*rules.taken(owned, request.limit))

    def insert(self, request: ImportRecords) -> None:
        rules.check_owner(request.owner)
        key = (request.tenant, request.owner)
        theirs = dict(self._owners.get(key, {}))
        for record in request.records:
            before = theirs.get((record.kind, record.name))
            if rules.newer(record, rules.standing(before) if before else None):
                theirs[record.kind, record.name] = record
        self._keep(key, theirs)

    def expire(self, now_us: int, limit: int) -> int:
        dead = [
            (key, place)
            for key, theirs in self._owners.items()
            for place, record in theirs.items()
            if not rules.alive(record.expires_us, now_us)
        ][:limit]
        for key, place in dead:
            del self._owners[key][place]
            if not self._owners[key]:
                del self._owners[key]
        return len(dead)

    def clear(self) -> None:
        self._owners.clear()

    def _keep(self, key: tuple[str, str], theirs: Named) -> None:
        self._owners.pop(key, None)
        if theirs:
            self._owners[key] = theirs
        if len(self._owners) > self._limit:
            self._owners.popitem(last=False)
