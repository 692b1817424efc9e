"""What a batch of requests comes to, worked out in memory before a database server is told.

A server is far away: a round trip for each statement of each request would cost more than the requests. So a batch is
read at once (`Needs`), decided here, request after request as if each were alone, and written at once (`Change`).

It is right because a shard has one writer: nothing can change between reading and writing except by a new owner, whom
the commit would notice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from rayflow.errors import ValidationError
from rayflow.messages import SessionInfo, Turn
from rayflow.messages.records import of_session
from rayflow.stores.repeat import Written
from rayflow.stores.servers.record_draft import FoundRecords, RecordChange, RecordDraft, RecordNeeds
from rayflow.stores.servers.rows import Head, Key, Rows


class Range(NamedTuple):
    """Turns of `after < seq <= upto`."""

    head: Head
    after: int
    upto: int


class RunOf(NamedTuple):
    """A run of a session."""

    key: Key
    run_id: str


class Idle(NamedTuple):
    """At most `limit` sessions that were last changed before `unused_us` or begun before `born_us`."""

    unused_us: int
    born_us: int
    limit: int


@dataclass(slots=True)
class Needs:
    """What must be read before a batch can be decided."""

    heads: set[Key] = field(default_factory=set)
    runs: set[RunOf] = field(default_factory=set)
    """Runs of which is needed what their sessions have."""
    logs: set[Key] = field(default_factory=set)
    """Sessions whose turns are needed, all of them."""
    users: set[Key] = field(default_factory=set)
    """Tenant and user whose sessions are."""
    idle: set[Idle] = field(default_factory=set)
    stale: int = 0
    """So many sessions that must be rekeyed, with their turns where they are not encrypted."""
    records: RecordNeeds | None = None

    def add(self, other: Needs) -> None:
        self.heads |= other.heads
        self.runs |= other.runs
        self.logs |= other.logs
        self.users |= other.users
        self.idle |= other.idle
        self.stale = max(self.stale, other.stale)
        if other.records is not None:
            if self.records is None:
                self.records = RecordNeeds()
            self.records.add(other.records)

    def check(self) -> None:
        """Raises `ValidationError` for names that no database takes."""
        for key in (*self.heads, *self.users):
            check_names(*key)
        check_names(*(run.run_id for run in self.runs))
        if self.records is not None:
            check_names(*self.records.names())


@dataclass(slots=True)
class Found:
    """What was read. `batch`: the number of the last batch that the shard has committed."""

    batch: int = 0
    heads: dict[Key, Head] = field(default_factory=dict)
    runs: dict[RunOf, list[Written]] = field(default_factory=dict)
    logs: dict[Key, list[Turn]] = field(default_factory=dict)
    idle: dict[Idle, list[Key]] = field(default_factory=dict)
    stale: list[Key] = field(default_factory=list)
    records: FoundRecords = field(default_factory=FoundRecords)

    def record_needs(self, needs: Needs) -> RecordNeeds | None:
        """What must be read of records, also for the sessions that may be deleted."""
        if needs.records is None and not (needs.users or needs.idle):
            return None
        wanted = RecordNeeds()
        wanted.add(needs.records or wanted)
        wanted.owners |= {(tenant, of_session(id)) for keys in self.idle.values() for tenant, id in keys}
        wanted.owners |= {
            (tenant, of_session(id))
            for (tenant, id), head in self.heads.items()
            if (tenant, head.info.user_id) in needs.users
        }
        return wanted


class HeadRow(NamedTuple):
    head: Head
    row: bytes


class TurnRow(NamedTuple):
    turn: Turn
    row: bytes


@dataclass(slots=True)
class Change:
    """What a batch does to a shard, in this order: `dropped` sessions go with all they have; of `cut` ones the turns
    beyond a number go; then heads and turns are written. `before`: the heads that are replaced. `runs`: what sessions
    then have of the runs that the batch touched."""

    dropped: dict[Key, Head] = field(default_factory=dict)
    cut: dict[Key, int] = field(default_factory=dict)
    heads: dict[Key, HeadRow] = field(default_factory=dict)
    before: dict[Key, Head] = field(default_factory=dict)
    turns: dict[Key, list[TurnRow]] = field(default_factory=dict)
    runs: dict[RunOf, list[Written]] = field(default_factory=dict)
    records: RecordChange = field(default_factory=RecordChange)

    def __bool__(self) -> bool:
        return bool(self.dropped or self.heads or self.records)


class Reading:
    """Turns for a reply, some of them (`stored`) still to be read."""

    __slots__ = ("_fresh", "stored", "turns")

    def __init__(self, stored: Range | None, fresh: list[Turn]) -> None:
        self.stored = stored
        self._fresh = fresh
        self.turns = fresh

    def read(self, turns: list[Turn]) -> None:
        self.turns = [*turns, *self._fresh]


class Draft:
    """The sessions of a batch as they will be. It knows every session that the batch's needs named."""

    def __init__(self, found: Found, rows: Rows) -> None:
        self.found = found
        self.rows = rows
        self.records = RecordDraft(found.records, rows.payloads)
        self.change = Change(records=self.records.change)
        self._heads = dict(found.heads)
        self._stored = {key: head.info.turns for key, head in found.heads.items()}
        self._readings: list[Reading] = []

    def head(self, key: Key) -> Head | None:
        return self._heads.get(key)

    def of_user(self, tenant: str, user_id: str) -> list[Key]:
        """All sessions of a user whom the needs named."""
        return [key for key, head in self._heads.items() if (head.info.tenant, head.info.user_id) == (tenant, user_id)]

    def run(self, run: RunOf) -> list[Written]:
        """What the session has of a run, oldest first."""
        stored = self._stored.get(run.key, 0)
        before = [turn for turn in self.found.runs.get(run, []) if turn.seq <= stored]
        return [*before, *(written(turn) for turn in self._fresh(run.key) if turn.run_id == run.run_id)]

    def log(self, key: Key, upto: int) -> list[Turn]:
        """The turns up to a number of a session whose log the needs named."""
        stored = self.found.logs.get(key, [])[: self._stored.get(key, 0)]
        return [*stored, *self._fresh(key)][:upto]

    def range(self, key: Key, after: int, upto: int) -> Reading:
        """Turns of `after < seq <= upto`, once the batch's readings are made."""
        stored, after = min(self._stored.get(key, 0), upto), max(after, 0)
        wanted = Range(self.found.heads[key], after, stored) if after < stored else None
        reading = Reading(wanted, [turn for turn in self._fresh(key) if after < turn.seq <= upto])
        self._readings.append(reading)
        return reading

    def readings(self) -> list[Reading]:
        """Those that are still to be made."""
        return [reading for reading in self._readings if reading.stored is not None]

    def make(self, info: SessionInfo, turns: Iterable[Turn] = ()) -> SessionInfo:
        """A new session."""
        return self.write(Head(info, self.rows.payloads.new_key(info.tenant, info.session_id)), turns)

    def write(self, head: Head, turns: Iterable[Turn] = ()) -> SessionInfo:
        """Set the head of a session and add turns at its end: all of it or, where something cannot be stored,
        nothing."""
        key, info, fresh = head.of, head.info, []
        check_names(info.tenant, info.session_id, info.user_id)
        for turn in turns:
            check_names(turn.run_id)
            fresh.append(TurnRow(turn, self.rows.pack_turn(head.log, turn)))
        self.change.heads[key] = HeadRow(head, self.rows.pack_head(head))
        self._heads[key] = head
        if key in self.found.heads and key not in self.change.dropped:
            self.change.before[key] = self.found.heads[key]
        if fresh:
            self.change.turns.setdefault(key, []).extend(fresh)
            self._note({row.turn.run_id for row in fresh}, key)
        return info

    def cut(self, key: Key, keep: int, run_ids: Iterable[str]) -> None:
        """Take away the turns beyond a number; all of them belong to these runs."""
        if keep < self._stored.get(key, 0):
            self._stored[key] = self.change.cut[key] = keep
        if key in self.change.turns:
            self.change.turns[key] = [row for row in self.change.turns[key] if row.turn.seq <= keep]
        self._note(run_ids, key)

    def drop(self, key: Key) -> None:
        """Take away a session with its records, whose owner the needs named."""
        self.records.drop((key[0], of_session(key[1])))
        del self._heads[key]
        self._stored[key] = 0
        change = self.change
        change.heads.pop(key, None)
        change.before.pop(key, None)
        change.cut.pop(key, None)
        change.turns.pop(key, None)
        change.runs = {run: turns for run, turns in change.runs.items() if run.key != key}
        if key in self.found.heads:
            change.dropped[key] = self.found.heads[key]

    def _note(self, run_ids: Iterable[str], key: Key) -> None:
        for run in (RunOf(key, run_id) for run_id in run_ids if run_id):
            self.change.runs[run] = self.run(run)

    def _fresh(self, key: Key) -> list[Turn]:
        return [row.turn for row in self.change.turns.get(key, [])]


def written(turn: Turn) -> Written:
    """What of a turn tells whether an append is a repetition."""
    return Written(turn.seq, turn.message.role, turn.partial, turn.digest)


def check_names(*names: str) -> None:
    """Raises `ValidationError` for a name that no database takes: it may harm its own request only, not a batch."""
    for name in names:
        if "\0" in name or not _encodes(name):
            raise ValidationError(f"{name!r:.80} cannot be stored: it holds a NUL or half of a surrogate pair")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
