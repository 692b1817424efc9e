"""Records in the file of their shard, each method inside a transaction that its caller holds.

An owner has a row with the data key of its records, where they are encrypted, as long as it has any.
"""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

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
from rayflow.stores.payloads import Payloads
from rayflow.stores.records import rules
from rayflow.stores.sealing import Log, RecordPlace

COLUMNS = "kind, name, version, created_us, updated_us, expires_us, value"


class Owner(NamedTuple):
    number: int
    log: Log


class RecordTables:
    """The tables through one connection; `payloads` makes bytes of values."""

    def __init__(self, db: sqlite3.Connection, payloads: Payloads) -> None:
        self._db = db
        self._payloads = payloads

    def read(self, request: ReadRecords, now_us: int) -> Records:
        rules.check_read(request)
        owner = self._owner(request.tenant, request.owner)
        if owner is None:
            return Records([])
        chosen = f" and name in ({','.join('?' * len(request.names))})" if request.names else ""
        rows = self._db.execute(
            f"select {COLUMNS} from records where owner = ? and kind = ? and name > ?{chosen}"
            " and (expires_us = 0 or expires_us > ?) order by name limit ?",
            (owner.number, request.kind, request.after, *request.names, now_us, request.limit + 1),
        )
        return Records(*rules.taken((self._record(owner.log, row) for row in rows), request.limit))

    def write(self, request: WriteRecords, now_us: int) -> Written:
        rules.check_write(request)
        owner = self._owner(request.tenant, request.owner)
        decided = [
            (write, rules.written(self._standing(owner, write.kind, write.name), write, now_us))
            for write in request.writes
        ]
        for write, after in decided:
            if after is not None:
                owner = owner or self._make(request.tenant, request.owner)
                self._put(owner, after)
            elif owner is not None:
                self._db.execute(
                    "delete from records where owner = ? and kind = ? and name = ?",
                    (owner.number, write.kind, write.name),
                )
        versions = [after.version if after else 0 for _, after in decided]
        if owner is not None and not all(versions):
            self._tidy(owner.number)
        return Written(versions)

    def erase(self, request: EraseRecords) -> ErasedRecords:
        owner = self._owner(request.tenant, request.owner)
        if owner is None:
            return ErasedRecords(0)
        kind = " and kind = ?" if request.kind else ""
        gone = self._db.execute(
            f"delete from records where owner = ?{kind}", (owner.number, *filter(None, [request.kind]))
        ).rowcount
        self._tidy(owner.number)
        return ErasedRecords(gone)

    def drop(self, tenant: str, owner: str) -> int:
        """Delete all records of an owner. Returns how many."""
        return self.erase(EraseRecords(tenant, owner)).records

    def list(self, request: ListRecords) -> RecordList:
        where, values = ["true"], list[str | int]()
        for column, value in (("tenant", request.tenant), ("owner_name", request.owner or None)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if request.after is not None:
            where.append("(tenant, owner_name, kind, name) > (?, ?, ?, ?)")
            values += request.after
        rows = self._db.execute(
            f"select tenant, owner_name, data_key, {COLUMNS} from record_owners"
            f" join records on records.owner = record_owners.number where {' and '.join(where)}"
            " order by tenant, owner_name, kind, name limit ?",
            (*values, request.limit + 1),
        )
        return RecordList(
            *rules.taken(
                (
                    OwnedRecord(tenant, of, self._record(Log(tenant, of, key), tuple(row)))
                    for tenant, of, key, *row in rows
                ),
                request.limit,
            )
        )

    def insert(self, request: ImportRecords) -> None:
        rules.check_owner(request.owner)
        owner = self._owner(request.tenant, request.owner)
        for record in request.records:
            before = self._standing(owner, record.kind, record.name)
            if rules.newer(record, before):
                owner = owner or self._make(request.tenant, request.owner)
                self._put(owner, record)

    def expire(self, now_us: int, limit: int) -> int:
        gone = self._db.execute(
            "delete from records where (owner, kind, name) in (select owner, kind, name from records"
            " where expires_us > 0 and expires_us <= ? limit ?) returning owner",
            (now_us, limit),
        ).fetchall()
        for (number,) in set(gone):
            self._tidy(number)
        return len(gone)

    def rekey(self, after: int, limit: int) -> tuple[int, int]:
        """Wrap data keys anew, and encrypt what has none: of at most `limit` owners after number `after`. Returns how
        many, and the number of the last one looked at."""
        done = 0
        for number, *of in self._db.execute(
            "select number, tenant, owner_name, data_key from record_owners where number > ? order by number", (after,)
        ).fetchall():
            after, owner = number, Owner(number, Log(*of))
            if self._payloads.stale(owner.log.key):
                self._rekey(owner)
                done += 1
                if done == limit:
                    break
        return done, after

    def _rekey(self, owner: Owner) -> None:
        log = owner.log
        new = log._replace(
            key=self._payloads.rewrap(log) if log.key else self._payloads.new_key(log.tenant, log.session_id)
        )
        self._db.execute("update record_owners set data_key = ? where number = ?", (new.key, owner.number))
        if not log.key:
            rows = self._db.execute(f"select {COLUMNS} from records where owner = ?", (owner.number,)).fetchall()
            for row in rows:
                self._put(Owner(owner.number, new), self._record(log, row))

    def _owner(self, tenant: str, name: str) -> Owner | None:
        row = self._db.execute(
            "select number, data_key from record_owners where tenant = ? and owner_name = ?", (tenant, name)
        ).fetchone()
        return Owner(row[0], Log(tenant, name, row[1])) if row else None

    def _make(self, tenant: str, name: str) -> Owner:
        log = Log(tenant, name, self._payloads.new_key(tenant, name))
        made = self._db.execute("insert into record_owners (tenant, owner_name, data_key) values (?,?,?)", log)
        assert made.lastrowid is not None, "it was inserted"
        return Owner(made.lastrowid, log)

    def _standing(self, owner: Owner | None, kind: str, name: str) -> rules.Standing | None:
        if owner is None:
            return None
        row = self._db.execute(
            "select version, created_us, expires_us from records where owner = ? and kind = ? and name = ?",
            (owner.number, kind, name),
        ).fetchone()
        return rules.Standing(*row) if row else None

    def _put(self, owner: Owner, record: Record) -> None:
        place = RecordPlace(record.kind, record.name, record.version)
        self._db.execute(
            f"insert into records (owner, {COLUMNS}) values (?,?,?,?,?,?,?,?) on conflict (owner, kind, name) do update"
            " set version = excluded.version, created_us = excluded.created_us, updated_us = excluded.updated_us,"
            " expires_us = excluded.expires_us, value = excluded.value",
            (
                owner.number,
                record.kind,
                record.name,
                record.version,
                record.created_us,
                record.updated_us,
                record.expires_us,
                self._payloads.pack_record(owner.log, place, record.value),
            ),
        )

    def _record(self, log: Log, row: tuple[Any, ...]) -> Record:
        kind, name, version, created_us, updated_us, expires_us, stored = row
        value = self._payloads.record(log, RecordPlace(kind, name, version), stored)
        return Record(kind, name, value, version, created_us, updated_us, expires_us)

    def _tidy(self, number: int) -> None:
        """An owner without records has no key: whatever copies of them are left on the disk cannot be read."""
        self._db.execute(
            "delete from record_owners where number = ? and not exists (select 1 from records where owner = ?)",
            (number, number),
        )
