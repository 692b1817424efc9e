"""What the requests do to the tables of a shard, each inside a transaction that its caller holds."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from rayflow.messages import (
    Appended,
    AppendTurns,
    CloseSession,
    CreateSession,
    DeleteSession,
    ForkSession,
    GetHistory,
    History,
    ImportSession,
    RollBackRun,
    SessionInfo,
    Turn,
    UpdateSession,
)
from rayflow.stores import rules
from rayflow.stores import sqlite_logs as logs
from rayflow.stores.payloads import Payloads
from rayflow.stores.repeat import repeated
from rayflow.stores.sealing import Log
from rayflow.stores.sqlite_logs import REPEAT_SPAN, Stretch

HEAD = (
    "select tenant, session_id, number, user_id, created_us, updated_us, last_seq, version, closed_us, parent_id,"
    " branch_id, forked_at, data_key, head from heads"
)
"""What `Row` is made of; a `where` follows."""

FIND = f"{HEAD} where tenant = ? and session_id = ?"


class Row(NamedTuple):
    """The head of a session as it is stored."""

    tenant: str
    session_id: str
    number: int
    user_id: str
    created_us: int
    updated_us: int
    last_seq: int
    version: int
    closed_us: int
    parent_id: str
    branch_id: str
    forked_at: int
    data_key: bytes
    head: bytes

    @property
    def log(self) -> Log:
        return Log(self.tenant, self.session_id, self.data_key)

    def info(self, payloads: Payloads) -> SessionInfo:
        head = payloads.head(self.log, self.head)
        return SessionInfo(
            self.session_id,
            self.tenant,
            self.user_id,
            self.created_us,
            self.updated_us,
            self.last_seq,
            head.metadata,
            head.title,
            self.version,
            self.closed_us,
            self.parent_id,
            self.branch_id,
            self.forked_at,
        )


class Shard:
    """The tables through one connection; `payloads` makes bytes of what they hold."""

    def __init__(self, db: sqlite3.Connection, payloads: Payloads) -> None:
        self._db = db
        self._payloads = payloads

    def append(self, request: AppendTurns, now_us: int) -> Appended:
        row = self._row(request.tenant, request.session_id)
        if row is not None and (repeat := self._repeat(row, request)) is not None:
            return repeat
        rules.check_append(request, row.last_seq if row else None, bool(row and row.closed_us))
        created = row is None
        if row is None:
            info = SessionInfo(request.session_id, request.tenant, request.user_id, now_us, now_us)
            row = self._insert(info)
        window = self._window(row, request.window, row.last_seq)
        turns = rules.new_turns(request, row.last_seq, now_us)
        logs.write(self._db, self._payloads, row.number, row.log, turns)
        last = row.last_seq + len(turns)
        self._move(row, last, now_us)
        return Appended(last, created=created, window=window)

    def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        row = self._row(request.tenant, request.session_id)
        if row is None:
            info = rules.created(request, now_us)
            self._insert(info)
            return info
        if not request.get_or_create:
            raise rules.taken(request.session_id)
        return row.info(self._payloads)

    def info(self, tenant: str, session_id: str) -> SessionInfo:
        return self._find(tenant, session_id).info(self._payloads)

    def history(self, request: GetHistory) -> History:
        row = self._find(request.tenant, request.session_id)
        after = max(request.after, row.last_seq - request.limit) if request.tail else request.after
        return History(row.info(self._payloads), self._read(row, after, min(after + request.limit, row.last_seq)))

    def update(self, request: UpdateSession, now_us: int) -> SessionInfo:
        row = self._find(request.tenant, request.session_id)
        info = rules.updated(row.info(self._payloads), request, now_us)
        self._db.execute(
            "update heads set head = ?, version = ?, updated_us = ? where tenant = ? and session_id = ?",
            (
                self._payloads.pack_head(row.log, info.title, info.metadata),
                info.version,
                info.updated_us,
                info.tenant,
                info.session_id,
            ),
        )
        return info

    def fork(self, request: ForkSession, now_us: int) -> SessionInfo:
        parent = self._find(request.tenant, request.session_id)
        if self._row(request.tenant, request.child_id) is not None:
            raise rules.taken(request.child_id)
        info = rules.forked(parent.info(self._payloads), request, now_us)
        child = self._insert(info)
        logs.share(self._db, child.number, self._stretches(parent), info.forked_at)
        return info

    def close(self, request: CloseSession, now_us: int) -> SessionInfo:
        row = self._find(request.tenant, request.session_id)
        info = rules.closed(row.info(self._payloads), now_us)
        self._db.execute(
            "update heads set closed_us = ?, updated_us = ? where tenant = ? and session_id = ?",
            (info.closed_us, info.updated_us, info.tenant, info.session_id),
        )
        return info

    def roll_back(self, request: RollBackRun, now_us: int) -> SessionInfo:
        row = self._find(request.tenant, request.session_id)
        others = logs.last_of_others(self._db, row.number, request.run_id)
        keep = max(others, *(stretch.upto for stretch in self._stretches(row)[:-1]), 0)
        earlier = logs.written(self._db, row.number, request.run_id, "", keep - REPEAT_SPAN)
        if not earlier:
            return row.info(self._payloads)
        if earlier[0].seq <= keep or logs.shared_upto(self._db, row.number) > keep:
            raise rules.not_the_end(request.session_id, request.run_id, row.last_seq)
        logs.cut(self._db, row.number, keep)
        self._move(row, keep, now_us)
        return self.info(request.tenant, request.session_id)

    def delete(self, request: DeleteSession) -> None:
        self.drop(self._find(request.tenant, request.session_id))

    def import_session(self, request: ImportSession) -> SessionInfo:
        row = self._row(request.info.tenant, request.info.session_id)
        info, turns = rules.imported(row.info(self._payloads) if row else None, request)
        row = row or self._insert(info)
        logs.write(self._db, self._payloads, row.number, row.log, turns)
        self._move(row, info.turns, info.updated_us)
        return info

    def drop(self, row: Row) -> None:
        """Take away a session and what nobody shares of its log."""
        self._db.execute("delete from heads where tenant = ? and session_id = ?", (row.tenant, row.session_id))
        logs.drop(self._db, row.number)

    def _row(self, tenant: str, session_id: str) -> Row | None:
        found = self._db.execute(FIND, (tenant, session_id)).fetchone()
        return Row(*found) if found else None

    def _find(self, tenant: str, session_id: str) -> Row:
        row = self._row(tenant, session_id)
        if row is None:
            raise rules.unknown(session_id)
        return row

    def _insert(self, info: SessionInfo) -> Row:
        """A new session, with an empty log of its own."""
        log = Log(info.tenant, info.session_id, self._payloads.new_key(info.tenant, info.session_id))
        row = Row(
            info.tenant,
            info.session_id,
            logs.make(self._db, log),
            info.user_id,
            info.created_us,
            info.updated_us,
            info.turns,
            info.version,
            info.closed_us,
            info.parent_conversation_id,
            info.branch_id,
            info.forked_at,
            log.key,
            self._payloads.pack_head(log, info.title, info.metadata),
        )
        self._db.execute(
            "insert into heads (tenant, session_id, number, user_id, created_us, updated_us, last_seq, version,"
            " closed_us, parent_id, branch_id, forked_at, data_key, head) values (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            row,
        )
        return row

    def _move(self, row: Row, last: int, now_us: int) -> None:
        self._db.execute(
            "update heads set last_seq = ?, updated_us = ? where tenant = ? and session_id = ?",
            (last, now_us, row.tenant, row.session_id),
        )

    def _stretches(self, row: Row) -> list[Stretch]:
        own = Stretch(row.number, row.log, row.last_seq)
        return [*logs.shared(self._db, row.number), own] if row.forked_at else [own]

    def _read(self, row: Row, after: int, upto: int) -> list[Turn]:
        return logs.read(self._db, self._payloads, self._stretches(row), after, upto) if after < upto else []

    def _window(self, row: Row, size: int, upto: int) -> list[Turn]:
        """The last `size` turns with numbers up to `upto`, oldest first."""
        return self._read(row, max(upto - size, 0), upto) if size else []

    def _repeat(self, row: Row, request: AppendTurns) -> Appended | None:
        """The reply to an append that was made before."""
        if not request.run_id or not row.last_seq:
            return None
        roles = [message.role for message in request.messages]
        since = row.last_seq - REPEAT_SPAN - len(roles)
        had = logs.written(self._db, row.number, request.run_id, request.digest, since)
        repeat = repeated(had, roles, request.expected_seq, digest=request.digest, partial=request.partial)
        if repeat is None:
            return None
        window = self._window(row, request.window, repeat.last_seq - len(roles))
        answer = None if repeat.answer is None else self._read(row, repeat.answer - 1, repeat.answer)[0]
        return Appended(repeat.last_seq, window=window, answer=answer)
