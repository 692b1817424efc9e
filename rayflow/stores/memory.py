"""Sessions in memory: for tests and quick tries. Bounded, and lost with the process, which `SessionInfo` callers can
see from the configuration (`session.store: memory`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from rayflow.messages import (
    Appended,
    AppendTurns,
    CloseSession,
    CreateSession,
    DeleteSession,
    Erased,
    ErasedRecords,
    EraseRecords,
    EraseUser,
    ForkSession,
    GetHistory,
    GetSession,
    History,
    ImportRecords,
    ImportSession,
    ListRecords,
    ListSessions,
    Position,
    ReadRecords,
    RecordList,
    Records,
    RollBackRun,
    SessionInfo,
    SessionList,
    Turn,
    UpdateSession,
    WriteRecords,
    Written,
)
from rayflow.messages.records import of_session, of_user
from rayflow.stores import repeat, rules
from rayflow.stores.records.memory import MemoryRecords

Key = tuple[str, str]


@dataclass(slots=True)
class _Session:
    info: SessionInfo
    turns: list[Turn] = field(default_factory=list)


class MemoryStore:
    """`limit`: sessions kept; the least recently written one is dropped beyond it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: OrderedDict[Key, _Session] = OrderedDict()
        self._records = MemoryRecords(limit)

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        self._sessions.clear()
        self._records.clear()

    async def append(self, request: AppendTurns, now_us: int) -> Appended:
        key = (request.tenant, request.session_id)
        session = self._sessions.get(key)
        if session is not None and (made := _repeat(session, request)) is not None:
            return made
        info, turns = rules.appended(session.info if session else None, request, now_us)
        created = session is None
        session = session or _Session(info)
        window = _window(session.turns, request.window)
        session.turns += turns
        self._keep(session, info)
        return Appended(info.turns, created=created, window=window, version=info.version)

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        session = self._sessions.get((request.tenant, request.session_id))
        if session is None:
            return self._keep(_Session(info := rules.created(request, now_us)), info)
        if not request.get_or_create:
            raise rules.taken(request.session_id)
        return session.info

    async def get(self, request: GetSession) -> SessionInfo:
        return self._find(request.tenant, request.session_id).info

    async def history(self, request: GetHistory) -> History:
        session = self._find(request.tenant, request.session_id)
        after = max(request.after, len(session.turns) - request.limit) if request.tail else request.after
        return History(session.info, session.turns[after : after + request.limit])

    async def list(self, request: ListSessions) -> SessionList:
        found = [
            session.info
            for (tenant, _), session in self._sessions.items()
            if tenant == request.tenant and request.user_id in ("", session.info.user_id)
        ]
        found.sort(key=_position, reverse=True)
        after = request.after
        return SessionList([info for info in found if after is None or _position(info) < after][: request.limit])

    async def tenants(self) -> Sequence[str]:
        return sorted({tenant for tenant, _ in self._sessions})

    async def update(self, request: UpdateSession, now_us: int) -> SessionInfo:
        session = self._find(request.tenant, request.session_id)
        return self._keep(session, rules.updated(session.info, request, now_us))

    async def fork(self, request: ForkSession, now_us: int) -> SessionInfo:
        parent = self._find(request.tenant, request.session_id)
        if (request.tenant, request.child_id) in self._sessions:
            raise rules.taken(request.child_id)
        child = rules.forked(parent.info, request, now_us)
        return self._keep(_Session(child, parent.turns[: child.forked_at]), child)

    async def close_session(self, request: CloseSession, now_us: int) -> SessionInfo:
        session = self._find(request.tenant, request.session_id)
        return self._keep(session, rules.closed(session.info, now_us))

    async def roll_back(self, request: RollBackRun, now_us: int) -> SessionInfo:
        session = self._find(request.tenant, request.session_id)
        theirs = [turn.seq for turn in session.turns if turn.run_id == request.run_id]
        if not theirs:
            return session.info
        info = rules.rolled_back(session.info, request.run_id, theirs, now_us)
        del session.turns[info.turns :]
        return self._keep(session, info)

    async def delete(self, request: DeleteSession) -> None:
        self._find(request.tenant, request.session_id)
        self._drop((request.tenant, request.session_id))

    async def erase(self, request: EraseUser) -> Erased:
        theirs = [
            key
            for key, session in self._sessions.items()
            if (session.info.tenant, session.info.user_id) == (request.tenant, request.user_id)
        ]
        for key in theirs:
            self._drop(key)
        return Erased(len(theirs), self._records.drop(request.tenant, of_user(request.user_id)))

    async def expire(self, now_us: int, timeout_s: float, max_s: float, limit: int = 1000) -> int:
        unused_us, born_us = rules.before(now_us, timeout_s), rules.before(now_us, max_s)
        idle = (key for key, session in self._sessions.items() if rules.idle(session.info, unused_us, born_us))
        gone = list(islice(idle, limit))
        for key in gone:
            self._drop(key)
        return len(gone)

    async def import_session(self, request: ImportSession) -> SessionInfo:
        session = self._sessions.get((request.info.tenant, request.info.session_id))
        info, turns = rules.imported(session.info if session else None, request)
        session = session or _Session(info)
        session.turns += turns
        return self._keep(session, info)

    async def rekey(self, limit: int = 100) -> int:
        """Nothing is encrypted, because nothing is at rest."""
        return 0

    async def read_records(self, request: ReadRecords, now_us: int) -> Records:
        return self._records.read(request, now_us)

    async def write_records(self, request: WriteRecords, now_us: int) -> Written:
        return self._records.write(request, now_us)

    async def erase_records(self, request: EraseRecords) -> ErasedRecords:
        return self._records.erase(request)

    async def list_records(self, request: ListRecords) -> RecordList:
        return self._records.list(request)

    async def import_records(self, request: ImportRecords) -> None:
        self._records.insert(request)

    async def expire_records(self, now_us: int, limit: int = 1000) -> int:
        return self._records.expire(now_us, limit)

    async def rekey_records(self, limit: int = 100) -> int:
        return 0

    def _find(self, tenant: str, session_id: str) -> _Session:
        session = self._sessions.get((tenant, session_id))
        if session is None:
            raise rules.unknown(session_id)
        return session

    def _keep(self, session: _Session, info: SessionInfo) -> SessionInfo:
        session.info = info
        key = (info.tenant, info.session_id)
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        if len(self._sessions) > self._limit:
            self._drop(next(iter(self._sessions)))
        return info

    def _drop(self, key: Key) -> None:
        del self._sessions[key]
        self._records.drop(key[0], of_session(key[1]))


def _position(info: SessionInfo) -> Position:
    return Position(info.created_us, info.session_id)


def _window(turns: Sequence[Turn], size: int) -> list[Turn]:
    return list(turns[-size:]) if size else []


def _repeat(session: _Session, request: AppendTurns) -> Appended | None:
    """The reply to an append that was made before."""
    turns = session.turns
    if not request.run_id:
        return None
    had = [repeat.Written(t.seq, t.message.role, t.partial, t.digest) for t in turns if t.run_id == request.run_id]
    roles = [message.role for message in request.messages]
    made = repeat.repeated(had, roles, request.expected_seq, digest=request.digest, partial=request.partial)
    if made is None:
        return None
    before = turns[: made.last_seq - len(roles)]
    answer = None if made.answer is None else turns[made.answer - 1]
    return Appended(made.last_seq, window=_window(before, request.window), answer=answer, version=session.info.version)
