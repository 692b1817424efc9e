"""The log of a session in the tables of a shard, also where it begins as somebody else's.

A fork copies nothing: its log starts with shares of others (`upto` a number) and goes on with entries of its own. A log
whose session was deleted stays as long as it is shared, and as far.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from rayflow.chat import Usage
from rayflow.messages import Turn
from rayflow.stores.payloads import Payloads
from rayflow.stores.repeat import Written
from rayflow.stores.sealing import Log

REPEAT_SPAN = 64
"""How many turns back, before its own length, a repeated append without a digest is recognised; a session has one
writer, so a repeat follows its first try closely."""

SEQ_BITS = 31
MAX_SEQ = (1 << SEQ_BITS) - 1

_encode = msgspec.json.Encoder().encode
_decode_usage = msgspec.json.Decoder(Usage).decode


class Stretch(NamedTuple):
    """Where the turns up to `upto` are, after those of the stretch before."""

    number: int
    log: Log
    upto: int


def place(number: int, seq: int) -> int:
    """The key of an entry."""
    return (number << SEQ_BITS) + seq


def make(db: sqlite3.Connection, log: Log) -> int:
    """The number of a new log."""
    made = db.execute("insert into logs (tenant, session_id, data_key) values (?,?,?)", log)
    assert made.lastrowid is not None, "it was inserted"
    return made.lastrowid


def write(db: sqlite3.Connection, payloads: Payloads, number: int, log: Log, turns: Iterable[Turn]) -> None:
    db.executemany(
        "insert into entries (place, run_id, role, agent, partial, created_us, usage, digest, message)"
        " values (?,?,?,?,?,?,?,?,?)",
        [
            (
                place(number, turn.seq),
                turn.run_id,
                turn.message.role,
                turn.agent,
                turn.partial,
                turn.created_us,
                None if turn.usage is None else _encode(turn.usage).decode(),
                turn.digest,
                payloads.pack_message(log, turn.seq, turn.message),
            )
            for turn in turns
        ],
    )


def read(db: sqlite3.Connection, payloads: Payloads, stretches: Iterable[Stretch], after: int, upto: int) -> list[Turn]:
    """Turns of `after < seq <= upto`, oldest first."""
    found: list[Turn] = []
    for number, log, end in stretches:
        if after < min(upto, end):
            rows = db.execute(
                "select place, run_id, agent, partial, created_us, usage, digest, message from entries"
                " where place > ? and place <= ? order by place",
                (place(number, after), place(number, min(upto, end))),
            )
            found += [_turn(payloads, log, row) for row in rows]
            after = end
    return found


def _turn(payloads: Payloads, log: Log, row: tuple[Any, ...]) -> Turn:
    at, run_id, agent, partial, created_us, usage, digest, stored = row
    seq = at & MAX_SEQ
    message = payloads.message(log, seq, stored)
    cost = None if usage is None else _decode_usage(usage)
    return Turn(seq, message, run_id, agent, bool(partial), created_us, cost, digest)


def shared(db: sqlite3.Connection, number: int) -> list[Stretch]:
    """What a log has of others, in order."""
    rows = db.execute(
        "select source, tenant, session_id, data_key, upto from shares join logs on logs.number = source"
        " where shares.number = ? order by upto",
        (number,),
    )
    return [Stretch(source, Log(tenant, session, key), upto) for source, tenant, session, key, upto in rows]


def share(db: sqlite3.Connection, number: int, stretches: Iterable[Stretch], upto: int) -> None:
    """Let log `number`, which is new, begin with the turns of these up to a number."""
    begin = 0
    for source, _, end in stretches:
        if begin < upto and begin < end:
            db.execute("insert into shares (number, upto, source) values (?,?,?)", (number, min(end, upto), source))
        begin = max(begin, end)


def written(db: sqlite3.Connection, number: int, run_id: str, digest: str, after: int) -> list[Written]:
    """What a log has of a run, oldest first: after a turn, and where there is a digest, anywhere."""
    entries = "select place, role, partial, digest from entries where run_id = :run and place <= :end and"
    sql = f"{entries} place > :after"
    if digest:
        sql += f" union {entries} place > :begin and digest <> ''"
    after = max(after, 0)
    places = {"begin": place(number, 0), "after": place(number, after), "end": place(number, MAX_SEQ)}
    rows = db.execute(f"{sql} order by place", {"run": run_id, **places})
    return [Written(at & MAX_SEQ, role, bool(partial), digest) for at, role, partial, digest in rows]


def last_runs(db: sqlite3.Connection, number: int, last_seq: int) -> list[str]:
    """The runs of the last turns of a log, as many as a repetition is looked for in; oldest first."""
    rows = db.execute(
        "select run_id from entries where place > ? and place <= ?",
        (place(number, max(last_seq - REPEAT_SPAN, 1) - 1), place(number, last_seq)),
    )
    return [run_id for (run_id,) in rows if run_id]


def last_of_others(db: sqlite3.Connection, number: int, run_id: str) -> int:
    """The last turn of a log that another run has added; 0 where there is none."""
    row = db.execute(
        "select place from entries where place > ? and place <= ? and run_id <> ? order by place desc limit 1",
        (place(number, 0), place(number, MAX_SEQ), run_id),
    ).fetchone()
    return int(row[0]) & MAX_SEQ if row else 0


def shared_upto(db: sqlite3.Connection, number: int) -> int:
    """The last turn of a log that others share."""
    (upto,) = db.execute("select coalesce(max(upto), 0) from shares where source = ?", (number,)).fetchone()
    return int(upto)


def cut(db: sqlite3.Connection, number: int, after: int) -> None:
    """Take away the turns of a log after a number."""
    db.execute("delete from entries where place > ? and place <= ?", (place(number, after), place(number, MAX_SEQ)))


def encrypt(db: sqlite3.Connection, payloads: Payloads, number: int, log: Log) -> None:
    """Every turn of a log that has got its key."""
    entries = db.execute(
        "select place, message from entries where place > ? and place <= ?", (place(number, 0), place(number, MAX_SEQ))
    ).fetchall()
    db.executemany(
        "update entries set message = ? where place = ?",
        [(payloads.seal(log, at & MAX_SEQ, stored), at) for at, stored in entries],
    )


def drop(db: sqlite3.Connection, number: int) -> None:
    """The session of this log is gone: keep what others share, of this log and of those that it shared."""
    sources = [source for (source,) in db.execute("select distinct source from shares where number = ?", (number,))]
    db.execute("delete from shares where number = ?", (number,))
    for each in (number, *sources):
        if not _alive(db, each):
            upto = shared_upto(db, each)
            cut(db, each, upto)
            if not upto:
                db.execute("delete from logs where number = ?", (each,))


def _alive(db: sqlite3.Connection, number: int) -> bool:
    """Whether a session writes to it."""
    row = db.execute(
        "select 1 from logs join heads using (tenant, session_id) where logs.number = ? and heads.number = logs.number",
        (number,),
    ).fetchone()
    return row is not None
