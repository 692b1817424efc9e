"""What the requests do to the tables of a shard, each inside a transaction that its caller holds."""

from __future__ import annotations

import sqlite3

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
from rayflow.messages.records import of_session
from rayflow.stores import rules
from rayflow.stores import sqlite_logs as logs
from rayflow.stores.payloads import Payloads
from rayflow.stores.records.sqlite import RecordTables
from rayflow.stores.repeat import repeated
from rayflow.stores.sealing import Log
from rayflow.stores.sqlite_heads import FIND, Heads, Hot, Row
from rayflow.stores.sqlite_logs import MAX_SEQ, REPEAT_SPAN, Stretch


class Shard:
    """The tables through one connection; `payloads` makes bytes of what they hold, `heads` are those at hand."""

    def __init__(self, db: sqlite3.Connection, payloads: Payloads, heads: Heads | None = None) -> None:
        self.db = db
        self.payloads = payloads
        self._heads = heads or Heads()

    def append(self, request: AppendTurns, now_us: int) -> Appended:
        hot = self._heads.find(self.db, request.tenant, request.session_id)
        if hot is not None and request.run_id and (repeat := self._repeat(hot, request)) is not None:
            return repeat
        rules.check_append(request, hot.row.last_seq if hot else None, bool(hot and hot.row.closed_us))
        created = hot is None
        if hot is None:
            info = SessionInfo(request.session_id, request.tenant, request.user_id, now_us, now_us)
            hot = self._heads.keep(self._insert(info))
        row = hot.row
        window = self._window(row, request.window, row.last_seq)
        turns = rules.new_turns(request, row.last_seq, now_us)
        logs.write(self.db, self.payloads, row.number, row.log, turns)
        if not turns:
            self._touch(row, now_us)
        hot.add(request.run_id, turns, now_us)
        return Appended(row.last_seq, created=created, window=window, version=row.version)

    def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        row = self._row(request.tenant, request.session_id)
        if row is None:
            info = rules.created(request, now_us)
            self._insert(info)
            return info
        if not request.get_or_create:
            raise rules.taken(request.session_id)
        return row.info(self.payloads)

    def info(self, tenant: str, session_id: str) -> SessionInfo:
        return self._find(tenant, session_id).info(self.payloads)

    def history(self, request: GetHistory) -> History:
        row = self._find(request.tenant, request.session_id)
        after = max(request.after, row.last_seq - request.limit) if request.tail else request.after
        return History(row.info(self.payloads), self._read(row, after, min(after + request.limit, row.last_seq)))

    def update(self, request: UpdateSession, now_us: int) -> SessionInfo:
        row = self._find(request.tenant, request.session_id)
        info = rules.updated(row.info(self.payloads), request, now_us)
        self.db.execute(
            "update heads set head = ?, version = ?, touched_us = ? where tenant = ? and session_id = ?",
            (
                self.payloads.pack_head(row.log, info.title, info.metadata),
                info.version,
                info.updated_us,
                info.tenant,
                info.session_id,
            ),
        )
        self.forget(info.tenant, info.session_id)
        return info

    def fork(self, request: ForkSession, now_us: int) -> SessionInfo:
        parent = self._find(request.tenant, request.session_id)
        if self._row(request.tenant, request.child_id) is not None:
            raise rules.taken(request.child_id)
        info = rules.forked(parent.info(self.payloads), request, now_us)
        child = self._insert(info)
        logs.share(self.db, child.number, self._stretches(parent), info.forked_at)
        return info

    def close(self, request: CloseSession, now_us: int) -> SessionInfo:
        row = self._find(request.tenant, request.session_id)
        info = rules.closed(row.info(self.payloads), now_us)
        self.db.execute(
            "update heads set closed_us = ?, touched_us = ? where tenant = ? and session_id = ?",
            (info.closed_us, info.updated_us, info.tenant, info.session_id),
        )
        self.forget(info.tenant, info.session_id)
        return info

    def roll_back(self, request: RollBackRun, now_us: int) -> SessionInfo:
        row = self._find(request.tenant, request.session_id)
        others = logs.last_of_others(self.db, row.number, request.run_id)
        keep = max(others, *(stretch.upto for stretch in self._stretches(row)[:-1]), 0)
        earlier = logs.written(self.db, row.number, request.run_id, "", keep - REPEAT_SPAN)
        if not earlier:
            return row.info(self.payloads)
        if earlier[0].seq <= keep or logs.shared_upto(self.db, row.number) > keep:
            raise rules.not_the_end(request.session_id, request.run_id, row.last_seq)
        logs.cut(self.db, row.number, keep)
        self._touch(row, now_us)
        return self.info(request.tenant, request.session_id)

    def delete(self, request: DeleteSession) -> None:
        self.drop(self._find(request.tenant, request.session_id))

    def import_session(self, request: ImportSession) -> SessionInfo:
        row = self._row(request.info.tenant, request.info.session_id)
        info, turns = rules.imported(row.info(self.payloads) if row else None, request)
        row = row or self._insert(info)
        logs.write(self.db, self.payloads, row.number, row.log, turns)
        self._touch(row, info.updated_us)
        return info

    def drop(self, row: Row) -> None:
        """Take away a session, what nobody shares of its log, and its records."""
        self.forget(row.tenant, row.session_id)
        self.db.execute("delete from heads where tenant = ? and session_id = ?", (row.tenant, row.session_id))
        logs.drop(self.db, row.number)
        RecordTables(self.db, self.payloads).drop(row.tenant, of_session(row.session_id))

    def forget(self, tenant: str, session_id: str) -> None:
        """A head was changed: read it again before the next turn."""
        self._heads.forget(tenant, session_id)

    def _row(self, tenant: str, session_id: str) -> Row | None:
        found = self.db.execute(FIND, (tenant, session_id)).fetchone()
        return Row(*found) if found else None

    def _find(self, tenant: str, session_id: str) -> Row:
        row = self._row(tenant, session_id)
        if row is None:
            raise rules.unknown(session_id)
        return row

    def _insert(self, info: SessionInfo) -> Row:
        """A new session, with an empty log of its own."""
        log = Log(info.tenant, info.session_id, self.payloads.new_key(info.tenant, info.session_id))
        head = self.payloads.pack_head(log, info.title, info.metadata)
        number = logs.make(self.db, log)
        columns = (info.tenant, info.session_id, number, info.user_id, info.created_us, info.updated_us)
        more = (info.version, info.closed_us, info.parent_conversation_id, info.branch_id, info.forked_at, log.key)
        self.db.execute(
            "insert into heads (tenant, session_id, number, user_id, created_us, touched_us, version, closed_us,"
            " parent_id, branch_id, forked_at, data_key, head) values (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (*columns, *more, head),
        )
        return Row(*columns, info.turns, *more, head)

    def _touch(self, row: Row, now_us: int) -> None:
        self.db.execute(
            "update heads set touched_us = ? where tenant = ? and session_id = ?", (now_us, row.tenant, row.session_id)
        )
        self.forget(row.tenant, row.session_id)

    def _stretches(self, row: Row) -> list[Stretch]:
        own = Stretch(row.number, row.log, MAX_SEQ)
        return [*logs.shared(self.db, row.number), own] if row.forked_at else [own]

    def _read(self, row: Row, after: int, upto: int) -> list[Turn]:
        return logs.read(self.db, self.payloads, self._stretches(row), after, upto) if after < upto else []

    def _window(self, row: Row, size: int, upto: int) -> list[Turn]:
        """The last `size` turns with numbers up to `upto`, oldest first."""
        return self._read(row, max(upto - size, 0), upto) if size else []

    def _repeat(self, hot: Hot, request: AppendTurns) -> Appended | None:
        """The reply to an append that was made before."""
        row, roles = hot.row, [message.role for message in request.messages]
        since = row.last_seq - REPEAT_SPAN - len(roles)
        had = None if request.digest else hot.written(request.run_id, since)
        if had is None:
            had = logs.written(self.db, row.number, request.run_id, request.digest, since)
        if not had:
            return None
        repeat = repeated(had, roles, request.expected_seq, digest=request.digest, partial=request.partial)
        if repeat is None:
            return None
        window = self._window(row, request.window, repeat.last_seq - len(roles))
        answer = None if repeat.answer is None else self._read(row, repeat.answer - 1, repeat.answer)[0]
        return Appended(repeat.last_seq, window=window, answer=answer, version=row.version)
