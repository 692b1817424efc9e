"""The heads of a shard's sessions as they are stored, and those that its writer has at hand.

A session that gets a turn is likely to get the next one: the writer remembers the heads of those it wrote to last, and
which runs they had, so that a turn of such a session is written without anything being read before. What it remembers
is true because nobody else writes to the file, which its epoch guarantees; a rollback takes all of it along.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict, deque
from collections.abc import Sequence

import msgspec

from rayflow.messages import SessionInfo, Turn
from rayflow.stores import sqlite_logs as logs
from rayflow.stores.payloads import Payloads
from rayflow.stores.repeat import Written
from rayflow.stores.sealing import Log

_LATEST = (
    f"from entries where place > (number << {logs.SEQ_BITS}) and place <= (number << {logs.SEQ_BITS}) + {logs.MAX_SEQ}"
    " order by place desc limit 1"
)
"""The newest entry of a head's own log."""

HEAD = (
    "select tenant, session_id, number, user_id, created_us,"
    f" max(touched_us, coalesce((select entries.created_us {_LATEST}), 0)) as updated_us,"
    f" coalesce((select place & {logs.MAX_SEQ} {_LATEST}),"
    " (select max(upto) from shares where shares.number = heads.number), 0) as last_seq,"
    " version, closed_us, parent_id, branch_id, forked_at, data_key, head from heads"
)
"""What `Row` is made of; a `where` follows."""

FIND = f"{HEAD} where tenant = ? and session_id = ?"

AT_HAND = 1024
"""Sessions that the writer remembers: a few KB each, for their last runs."""


class Row(msgspec.Struct):
    """The head of a session, and where its log stands."""

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


class Hot:
    """A session that was just written to. `runs`: who wrote its last turns, oldest first."""

    __slots__ = ("_latest", "_runs", "_theirs", "row")

    def __init__(self, row: Row, runs: Sequence[str] = ()) -> None:
        self.row = row
        self._runs = deque(reversed(dict.fromkeys(reversed(runs))), logs.REPEAT_SPAN + 1)
        self._latest = ""
        self._theirs: list[Written] = []
        """What the log has of the latest run, where that run began after this was made."""

    def written(self, run_id: str, since: int) -> list[Written] | None:
        """What the log has of a run after turn `since`, or None where only the log can tell."""
        if run_id == self._latest:
            return [turn for turn in self._theirs if turn.seq > since]
        return None if run_id in self._runs else []

    def add(self, run_id: str, turns: Sequence[Turn], now_us: int) -> None:
        row = self.row
        row.last_seq += len(turns)
        row.updated_us = max(now_us, row.updated_us)
        if not run_id:
            return
        if run_id != self._latest:
            again = run_id in self._runs
            if again:
                self._runs.remove(run_id)
            self._runs.append(run_id)
            self._latest, self._theirs = "" if again else run_id, []
        if self._latest:
            self._theirs += [Written(turn.seq, turn.message.role, turn.partial, turn.digest) for turn in turns]
            if len(self._theirs) > logs.REPEAT_SPAN:  # a long conversation in one run: look it up
                self._latest, self._theirs = "", []


class Heads:
    """The sessions that the writer remembers, at most `limit`, those of the longest ago first."""

    def __init__(self, limit: int = AT_HAND) -> None:
        self._limit = limit
        self._hot: OrderedDict[tuple[str, str], Hot] = OrderedDict()

    def find(self, db: sqlite3.Connection, tenant: str, session_id: str) -> Hot | None:
        """A session to write to, remembered or read; None where there is none."""
        key = (tenant, session_id)
        hot = self._hot.get(key)
        if hot is not None:
            self._hot.move_to_end(key)
            return hot
        found = db.execute(FIND, key).fetchone()
        if found is None:
            return None
        row = Row(*found)
        return self.keep(row, logs.last_runs(db, row.number, row.last_seq))

    def keep(self, row: Row, runs: Sequence[str] = ()) -> Hot:
        hot = self._hot[row.tenant, row.session_id] = Hot(row, runs)
        if len(self._hot) > self._limit:
            self._hot.popitem(last=False)
        return hot

    def forget(self, tenant: str, session_id: str) -> None:
        self._hot.pop((tenant, session_id), None)

    def forget_all(self) -> None:
        self._hot.clear()
