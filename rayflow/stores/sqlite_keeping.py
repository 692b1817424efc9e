"""Housekeeping in the tables of a shard: lists, erasure, what is idle, and new keys. Within a transaction of its
caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from rayflow.messages import Erased, EraseUser, ListSessions, Position, SessionList
from rayflow.messages.records import of_user
from rayflow.stores import sqlite_logs as logs
from rayflow.stores.payloads import HEAD as HEAD_SEQ
from rayflow.stores.payloads import Payloads
from rayflow.stores.records.sqlite import RecordTables
from rayflow.stores.sealing import Log
from rayflow.stores.sqlite_heads import FIND, HEAD, Row
from rayflow.stores.sqlite_sessions import Shard

Key = tuple[str, str]

FIRST = Position(2**63 - 1, "")
"""Before every session."""

GLANCE = 1000
"""Logs that are looked at together."""


def listed(db: sqlite3.Connection, payloads: Payloads, request: ListSessions) -> SessionList:
    after = request.after or FIRST
    whose = "tenant = ? and user_id = ?" if request.user_id else "tenant = ?"
    rows = db.execute(
        f"{HEAD} where {whose} and (created_us, session_id) < (?, ?) order by created_us desc, session_id desc limit ?",
        (request.tenant, *filter(None, [request.user_id]), after.created_us, after.session_id, request.limit),
    )
    return SessionList([Row(*row).info(payloads) for row in rows])


def tenants(db: sqlite3.Connection) -> list[str]:
    """From one to the next in the index, however many sessions each has."""
    rows = db.execute(
        "with recursive names (name) as (select min(tenant) from heads union all"
        " select (select min(tenant) from heads where tenant > name) from names where name is not null)"
        " select name from names where name is not null"
    )
    return [name for (name,) in rows]


def erase(shard: Shard, request: EraseUser) -> Erased:
    rows = shard.db.execute(
        f"{HEAD} where tenant = ? and user_id = ? order by created_us", (request.tenant, request.user_id)
    ).fetchall()
    for row in rows:
        shard.drop(Row(*row))
    records = RecordTables(shard.db, shard.payloads).drop(request.tenant, of_user(request.user_id))
    return Erased(len(rows), records)


def idle(db: sqlite3.Connection, updated_before_us: int, created_before_us: int, limit: int) -> list[Key]:
    """At most `limit` sessions whose last turn or whose beginning is older than these times."""
    rows = db.execute(
        f"{HEAD} where (touched_us < ? and updated_us < ?) or heads.created_us < ? limit ?",
        (updated_before_us, updated_before_us, created_before_us, limit),
    )
    return [(tenant, session_id) for tenant, session_id, *_ in rows]


def drop_idle(shard: Shard, keys: Iterable[Key], updated_before_us: int, created_before_us: int) -> int:
    """Delete those of these sessions that are still idle."""
    gone = 0
    for key in keys:
        row = shard.db.execute(
            f"{HEAD} where tenant = ? and session_id = ? and (updated_us < ? or heads.created_us < ?)",
            (*key, updated_before_us, created_before_us),
        ).fetchone()
        if row is not None:
            shard.drop(Row(*row))
            gone += 1
    return gone


def rekey(shard: Shard, after: int, limit: int) -> tuple[int, int]:
    """Wrap data keys anew, and encrypt what has none: of at most `limit` logs after number `after`. Returns how many,
    and the number of the last one looked at."""
    done = 0
    while done < limit:
        rows = shard.db.execute(
            "select number, tenant, session_id, data_key from logs where number > ? order by number limit ?",
            (after, GLANCE),
        ).fetchall()
        if not rows:
            break
        for number, *of in rows:
            log = Log(*of)
            after = number
            if shard.payloads.stale(log.key):
                _rekey(shard, number, log)
                done += 1
                if done == limit:
                    break
    return done, after


def _rekey(shard: Shard, number: int, log: Log) -> None:
    """A log, and its head: there is none where the session is gone and others share its log, and its id may even have
    been taken again by another one."""
    db, payloads = shard.db, shard.payloads
    head = db.execute(f"{FIND} and number = ?", (log.tenant, log.session_id, number)).fetchone()
    stored = Row(*head).head if head else b""
    if log.key:
        log = log._replace(key=payloads.rewrap(log))
    else:
        log = log._replace(key=payloads.new_key(log.tenant, log.session_id))
        logs.encrypt(db, payloads, number, log)
        stored = payloads.seal(log, HEAD_SEQ, stored)
    db.execute("update logs set data_key = ? where number = ?", (log.key, number))
    db.execute(
        "update heads set data_key = ?, head = ? where tenant = ? and session_id = ? and number = ?",
        (log.key, stored, log.tenant, log.session_id, number),
    )
    shard.forget(log.tenant, log.session_id)
