"""Records in Redis.

An owner has two keys: its records (a hash by kind and name) and their places in order (a sorted set). What finds them
again is kept for the shard: its owners in order, their data keys, the owners by what wraps these, and the records that
expire by when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from rayflow.messages import ListRecords, OwnedRecord, ReadRecords, Record, RecordList, Records
from rayflow.stores.payloads import Payloads
from rayflow.stores.records.rules import Page, Standing, alive
from rayflow.stores.sealing import Log, RecordPlace
from rayflow.stores.servers.record_draft import FoundRecords, Owner, RecordChange, RecordNeeds, RecordRow, Spot
from rayflow.stores.servers.redis_keys import Keys, RecordKeys
from rayflow.stores.servers.rows import WRAPPER_BYTES, Key

Client = Any
Pipeline = Any

FIRST_ROWS = 8
"""Read together; then four times as many each time. The first ones may be large, and all there are."""

OWNERS_AT_ONCE = 100


class _Row(msgspec.Struct, array_like=True, frozen=True):
    version: int
    created_us: int
    updated_us: int
    expires_us: int
    value: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


class RecordHashes:
    """Those of one shard."""

    def __init__(self, keys: Keys, payloads: Payloads) -> None:
        self.keys = RecordKeys(keys)
        self._payloads = payloads

    async def load(self, client: Client, needs: RecordNeeds) -> FoundRecords:
        keys, found, spots = self.keys, FoundRecords(), list(needs.records)
        kinds, expired = list(needs.kinds), list(needs.expired)
        asked = client.pipeline(transaction=False)
        for kind in kinds:
            low, high = keys.range_of(kind.kind)
            asked.zrangebylex(keys.places((kind.tenant, kind.owner)), low, high)
        for one in expired:
            asked.zrange(keys.expiry, "-inf", one.now_us, byscore=True, offset=0, num=one.limit)
        if needs.stale:
            present = Keys.wrapped_by(self._payloads.new_key("", "")[:WRAPPER_BYTES])
            asked.zrangebylex(keys.wrappers, "-", b"(" + present, 0, needs.stale)
            asked.zrangebylex(keys.wrappers, b"[" + present + b"\xff", "+", 0, needs.stale)
        answers = iter(await asked.execute())
        for kind in kinds:
            spots += [Spot(kind.tenant, kind.owner, *keys.parse_place(place)) for place in next(answers)]
        for one in expired:
            found.expired[one] = [keys.parse_spot(spot) for spot in next(answers)]
            spots += found.expired[one]
        if needs.stale:
            stale = [keys.parse_wrapped(member) for member in [*next(answers), *next(answers)]]
            found.stale = stale[: needs.stale]
        await self._load_owners(client, found, {*needs.owners, *found.stale, *(spot.of for spot in spots)})
        await self._load_standings(client, found, spots)
        for key in found.stale:
            if not found.owners[key].log.key:
                rows = await client.hgetall(keys.records(key))
                log = found.owners[key].log
                found.plain[key] = [self._record(log, keys.parse_place(place), row) for place, row in rows.items()]
        return found

    def write(self, commit: Pipeline, change: RecordChange) -> None:
        keys = self.keys
        for key, owner in change.dropped.items():
            commit.delete(keys.records(key), keys.places(key))
            commit.zrem(keys.owners, keys.owner(key))
            commit.hdel(keys.data_keys, keys.owner(key))
            commit.zrem(keys.wrappers, keys.wrapped(owner))
        for key, owner in change.owners.items():
            before = change.before.get(key)
            if before is None or before.wrapper != owner.wrapper:
                commit.zadd(keys.owners, {keys.owner(key): 0})
                commit.zadd(keys.wrappers, {keys.wrapped(owner): 0})
                if before is not None:
                    commit.zrem(keys.wrappers, keys.wrapped(before))
                if owner.log.key:
                    commit.hset(keys.data_keys, keys.owner(key), owner.log.key)
        for spot, row in change.records.items():
            place = keys.place(spot.kind, spot.name)
            if row is None:
                commit.hdel(keys.records(spot.of), place)
                commit.zrem(keys.places(spot.of), place)
            else:
                commit.hset(keys.records(spot.of), place, _packed(row))
                commit.zadd(keys.places(spot.of), {place: 0})
            if row is not None and row.record.expires_us:
                commit.zadd(keys.expiry, {keys.spot(spot): row.record.expires_us})
            else:
                commit.zrem(keys.expiry, keys.spot(spot))

    async def read(self, client: Client, request: ReadRecords, now_us: int) -> Records:
        keys, key = self.keys, (request.tenant, request.owner)
        if request.names:
            places = [keys.place(request.kind, name) for name in sorted(set(request.names)) if name > request.after]
        else:
            low, high = keys.range_of(request.kind, request.after)
            places = await client.zrangebylex(keys.places(key), low, high)
        page = Page[Record](request.limit)
        async for record in self._records(client, key, places):
            if alive(record.expires_us, now_us) and not page.add(record):
                break
        return Records(page.records, page.more)

    async def list(self, client: Client, request: ListRecords) -> RecordList:
        page = Page[OwnedRecord](request.limit)
        async for tenant, owner in self._owners(client, request):
            after = request.after
            behind = b"(" + self.keys.place(*after[2:]) if after is not None and after[:2] == (tenant, owner) else "-"
            places = await client.zrangebylex(self.keys.places((tenant, owner)), behind, "+")
            async for record in self._records(client, (tenant, owner), places):
                if not page.add(OwnedRecord(tenant, owner, record)):
                    return RecordList(page.records, True)
        return RecordList(page.records)

    async def _owners(self, client: Client, request: ListRecords) -> AsyncIterator[Key]:
        """In order, from the one after whose record the list goes on."""
        if request.tenant is not None and request.owner:
            yield request.tenant, request.owner
            return
        low, high = b"-", b"+"
        if request.tenant is not None:
            low, high = b"[" + request.tenant.encode() + b"\0", b"(" + request.tenant.encode() + b"\1"
        if request.after is not None:
            low = b"[" + self.keys.owner(request.after[:2])
        while True:
            members = await client.zrangebylex(self.keys.owners, low, high, 0, OWNERS_AT_ONCE)
            for member in members:
                key = self.keys.parse_owner(member)
                if request.owner in ("", key[1]):
                    yield key
            if len(members) < OWNERS_AT_ONCE:
                return
            low = b"(" + members[-1]

    async def _records(self, client: Client, key: Key, places: Sequence[bytes]) -> AsyncIterator[Record]:
        """Those of these places that are there."""
        log: Log | None = None
        start, count = 0, FIRST_ROWS
        while start < len(places):
            some = places[start : start + count]
            asked = client.pipeline(transaction=False)
            asked.hget(self.keys.data_keys, self.keys.owner(key))
            asked.hmget(self.keys.records(key), some)
            data_key, rows = await asked.execute()
            log = Log(*key, data_key or b"")
            for place, row in zip(some, rows, strict=True):
                if row is not None:
                    yield self._record(log, self.keys.parse_place(place), row)
            start, count = start + count, 4 * count

    async def _load_owners(self, client: Client, found: FoundRecords, wanted: set[Key]) -> None:
        if not wanted:
            return
        some = list(wanted)
        asked = client.pipeline(transaction=False)
        asked.hmget(self.keys.data_keys, [self.keys.owner(key) for key in some])
        for key in some:
            asked.hlen(self.keys.records(key))
        data_keys, *counts = await asked.execute()
        for key, data_key, count in zip(some, data_keys, counts, strict=True):
            if count:
                found.owners[key] = Owner(Log(*key, data_key or b""), count)

    async def _load_standings(self, client: Client, found: FoundRecords, spots: Sequence[Spot]) -> None:
        if not spots:
            return
        asked = client.pipeline(transaction=False)
        for spot in spots:
            asked.hget(self.keys.records(spot.of), self.keys.place(spot.kind, spot.name))
        for spot, stored in zip(spots, await asked.execute(), strict=True):
            if stored is not None:
                row = _decode(stored)
                found.records[spot] = Standing(row.version, row.created_us, row.expires_us)

    def _record(self, log: Log, place: tuple[str, str], stored: bytes) -> Record:
        row = _decode(stored)
        value = self._payloads.record(log, RecordPlace(*place, row.version), row.value)
        return Record(*place, value, row.version, row.created_us, row.updated_us, row.expires_us)


def _packed(row: RecordRow) -> bytes:
    record = row.record
    return _encode(_Row(record.version, record.created_us, record.updated_us, record.expires_us, row.value))
