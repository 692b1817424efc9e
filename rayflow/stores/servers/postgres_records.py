"""Records in PostgreSQL, each function on a connection, and within a transaction, that its caller holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rayflow.messages import ListRecords, OwnedRecord, ReadRecords, Record, RecordList, Records
from rayflow.messages.records import MAX_READ_BYTES
from rayflow.stores.payloads import Payloads
from rayflow.stores.records.rules import Standing, taken
from rayflow.stores.sealing import Log, RecordPlace
from rayflow.stores.servers.record_draft import FoundRecords, Owner, RecordChange, RecordNeeds, Spot
from rayflow.stores.servers.rows import WRAPPER_BYTES, Key
from rayflow.stores.servers.statements import columns, named_statements

SQL = named_statements("postgres_records.sql")

Connection = Any


class RecordTables:
    """Those of one shard, by its number."""

    def __init__(self, shard: int, payloads: Payloads) -> None:
        self._shard = shard
        self._payloads = payloads

    async def load(self, db: Connection, needs: RecordNeeds) -> FoundRecords:
        found, owners = FoundRecords(), set(needs.owners)
        if needs.records:
            _add(found, await db.fetch(SQL["standings"], self._shard, *columns(needs.records, 4)))
        if needs.kinds:
            _add(found, await db.fetch(SQL["standings_of_kinds"], self._shard, *columns(needs.kinds, 3)))
        for expired in needs.expired:
            found.expired[expired] = _add(found, await db.fetch(SQL["expired"], self._shard, *expired))
        owners |= {spot.of for spot in found.records}
        if owners:
            _add_owners(found, await db.fetch(SQL["owners"], self._shard, *columns(owners, 2)))
        if needs.stale:
            present = self._payloads.new_key("", "")[:WRAPPER_BYTES]
            found.stale = _add_owners(found, await db.fetch(SQL["stale"], self._shard, present, needs.stale))
        for key in found.stale:
            log = found.owners[key].log
            if not log.key:
                rows = await db.fetch(SQL["all_of"], self._shard, *key)
                found.plain[key] = [self._record(log, row) for row in rows]
        return found

    async def write(self, db: Connection, change: RecordChange) -> None:
        if change.dropped:
            await db.execute(SQL["drop_owners"], self._shard, *columns(change.dropped, 2))
        if change.owners:
            owners = [(*key, owner.wrapper, owner.log.key, owner.size) for key, owner in change.owners.items()]
            await db.execute(SQL["write_owners"], self._shard, *columns(owners, 5))
        gone = [spot for spot, row in change.records.items() if row is None]
        if gone:
            await db.execute(SQL["delete"], self._shard, *columns(gone, 4))
        rows = [
            (*spot, r.record.version, r.record.created_us, r.record.updated_us, r.record.expires_us, r.value)
            for spot, r in change.records.items()
            if r is not None
        ]
        if rows:
            await db.execute(SQL["write"], self._shard, *columns(rows, 9))

    async def read(self, db: Connection, request: ReadRecords, now_us: int) -> Records:
        rows = await db.fetch(
            SQL["page"],
            self._shard,
            request.tenant,
            request.owner,
            request.kind,
            request.after,
            now_us,
            request.names or None,
            request.limit + 1,
            MAX_READ_BYTES,
        )
        records = (self._record(Log(request.tenant, request.owner, key), row) for _, key, *row in rows)
        page, more = taken(records, request.limit)
        return Records(page, more or _cut(rows))

    async def list(self, db: Connection, request: ListRecords) -> RecordList:
        after = request.after or ("", "", "", "")
        rows = await db.fetch(
            SQL["list"], self._shard, request.tenant, request.owner, *after, request.limit + 1, MAX_READ_BYTES
        )
        owned = (
            OwnedRecord(tenant, owner, self._record(Log(tenant, owner, key), row))
            for _, tenant, owner, key, *row in rows
        )
        page, more = taken(owned, request.limit)
        return RecordList(page, more or _cut(rows))

    def _record(self, log: Log, row: Iterable[Any]) -> Record:
        kind, name, version, created_us, updated_us, expires_us, stored = row
        value = self._payloads.record(log, RecordPlace(kind, name, version), stored)
        return Record(kind, name, value, version, created_us, updated_us, expires_us)


def _cut(rows: list[Any]) -> bool:
    """Whether the server has left rows off because the reply is large enough."""
    return bool(rows) and rows[0][0] > len(rows)


def _add(found: FoundRecords, rows: Iterable[Any]) -> list[Spot]:
    spots = []
    for tenant, owner, kind, name, *there in rows:
        spot = Spot(tenant, owner, kind, name)
        found.records[spot] = Standing(*there)
        spots.append(spot)
    return spots


def _add_owners(found: FoundRecords, rows: Iterable[Any]) -> list[Key]:
    keys = []
    for tenant, name, data_key, count in rows:
        owner = Owner(Log(tenant, name, data_key), count)
        found.owners[owner.of] = owner
        keys.append(owner.of)
    return keys
