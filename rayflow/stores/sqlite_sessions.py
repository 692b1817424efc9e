"""What the requests do to the tables of a shard, each inside a transaction that its caller holds."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from rayflow.chat import Message
from rayflow.errors import Conflict, NotFound
from rayflow.messages import (
    Appended,
    AppendTurns,
    CreateSession,
    DeleteSession,
    GetHistory,
    History,
    SessionInfo,
    Turn,
)
from rayflow.stores.repeat import Written, repeated

REPEAT_SPAN = 64
"""How many turns back, before its own length, a repeated append is recognised; a session has one writer, so a repeat
follows its first try closely."""

_encode = msgspec.json.Encoder().encode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_metadata = msgspec.json.Decoder(dict[str, Any]).decode


def _head(db: sqlite3.Connection, tenant: str, session_id: str) -> int | None:
    row = db.execute(
        "select last_seq from sessions where tenant = ? and session_id = ?", (tenant, session_id)
    ).fetchone()
    return row[0] if row else None


def append(db: sqlite3.Connection, request: AppendTurns, now_us: int) -> Appended:
    tenant, session_id = request.tenant, request.session_id
    head = _head(db, tenant, session_id)
    if head and request.run_id:
        roles = [message.role for message in request.messages]
        repeat = repeated(_written(db, request, head), roles, request.expected_seq)
        if repeat is not None:
            answer = None if repeat.answer is None else _read(db, request, repeat.answer - 1, repeat.answer)[0]
            return Appended(repeat.last_seq, window=_window(db, request, repeat.last_seq - len(roles)), answer=answer)
    if head is None and request.expected_seq > 0:
        raise NotFound(f"session {session_id} was deleted", kind="session", id=session_id)
    last = head or 0
    if request.expected_seq >= 0 and request.expected_seq != last:
        raise Conflict(
            f"session {session_id} is at turn {last}, not {request.expected_seq}: read it again",
            session_id=session_id,
            last_seq=last,
        )
    window = _window(db, request, last)
    db.executemany(
        "insert into turns (tenant, session_id, seq, run_id, role, agent, status, created_us, message)"
        " values (?,?,?,?,?,?,?,?,?)",
        [
            (tenant, session_id, last + i, request.run_id, m.role, request.agent, request.status, now_us, _encode(m))
            for i, m in enumerate(request.messages, 1)
        ],
    )
    last += len(request.messages)
    if head is None:
        _insert_session(db, tenant, session_id, request.user_id, now_us, last, {})
    else:
        db.execute(
            "update sessions set last_seq = ?, updated_us = ? where tenant = ? and session_id = ?",
            (last, now_us, tenant, session_id),
        )
    return Appended(last, created=head is None, window=window)


def _written(db: sqlite3.Connection, request: AppendTurns, head: int) -> list[Written]:
    """What the session has of this run, oldest first."""
    since = head - REPEAT_SPAN - len(request.messages)
    rows = db.execute(
        "select seq, role, status from turns"
        " where tenant = ? and session_id = ? and seq > ? and run_id = ? order by seq",
        (request.tenant, request.session_id, since, request.run_id),
    )
    return [Written(*row) for row in rows]


def _window(db: sqlite3.Connection, request: AppendTurns, upto: int) -> list[Turn]:
    """The last `window` turns with numbers up to `upto`, oldest first."""
    return _read(db, request, upto - request.window, upto) if request.window and upto > 0 else []


def _read(db: sqlite3.Connection, request: AppendTurns, after: int, upto: int) -> list[Turn]:
    rows = db.execute(
        "select seq, run_id, agent, status, created_us, message from turns"
        " where tenant = ? and session_id = ? and seq > ? and seq <= ? order by seq",
        (request.tenant, request.session_id, after, upto),
    )
    return [_turn(row) for row in rows]


def _turn(row: tuple[Any, ...]) -> Turn:
    seq, run_id, agent, status, created_us, message = row
    return Turn(seq, _decode_message(message), run_id, agent, status, created_us)


def _insert_session(
    db: sqlite3.Connection, tenant: str, session_id: str, user_id: str, now_us: int, last: int, metadata: dict[str, Any]
) -> None:
    db.execute(
        "insert into sessions (tenant, session_id, user_id, created_us, updated_us, last_seq, metadata)"
        " values (?,?,?,?,?,?,?)",
        (tenant, session_id, user_id, now_us, now_us, last, _encode(metadata).decode()),
    )


def create(db: sqlite3.Connection, request: CreateSession, now_us: int) -> SessionInfo:
    if _head(db, request.tenant, request.session_id) is not None:
        raise Conflict(f"session {request.session_id} exists already: choose another id", session_id=request.session_id)
    _insert_session(db, request.tenant, request.session_id, request.user_id, now_us, 0, request.metadata)
    return info(db, request.tenant, request.session_id)


def info(db: sqlite3.Connection, tenant: str, session_id: str) -> SessionInfo:
    row = db.execute(
        "select user_id, created_us, updated_us, last_seq, metadata from sessions where tenant = ? and session_id = ?",
        (tenant, session_id),
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no session {session_id}", kind="session", id=session_id)
    user_id, created_us, updated_us, last_seq, metadata = row
    return SessionInfo(session_id, tenant, user_id, created_us, updated_us, last_seq, _decode_metadata(metadata))


def history(db: sqlite3.Connection, request: GetHistory) -> History:
    found = info(db, request.tenant, request.session_id)
    after = max(request.after, found.turns - request.limit) if request.tail else request.after
    rows = db.execute(
        "select seq, run_id, agent, status, created_us, message from turns"
        " where tenant = ? and session_id = ? and seq > ? order by seq limit ?",
        (request.tenant, request.session_id, after, request.limit),
    )
    return History(found, [_turn(row) for row in rows])


def delete(db: sqlite3.Connection, request: DeleteSession) -> None:
    info(db, request.tenant, request.session_id)
    key = (request.tenant, request.session_id)
    db.execute("delete from turns where tenant = ? and session_id = ?", key)
    db.execute("delete from sessions where tenant = ? and session_id = ?", key)
