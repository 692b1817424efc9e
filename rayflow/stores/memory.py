"""Sessions in memory: for tests and quick tries. Bounded, and lost with the process, which `SessionInfo` callers can
see from the configuration (`session.store: memory`)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

from rayflow.errors import Conflict, NotFound
from rayflow.messages import (
    Appended,
    AppendTurns,
    CreateSession,
    DeleteSession,
    GetHistory,
    GetSession,
    History,
    SessionInfo,
    Turn,
)
from rayflow.stores.repeat import Written, repeated

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

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        self._sessions.clear()

    async def append(self, request: AppendTurns, now_us: int) -> Appended:
        key = (request.tenant, request.session_id)
        session = self._sessions.get(key)
        created = session is None
        if session is None and request.expected_seq > 0:
            raise NotFound(f"session {request.session_id} was deleted", kind="session", id=request.session_id)
        if session is None:
            session = _Session(SessionInfo(request.session_id, request.tenant, request.user_id, now_us, now_us))
        if request.run_id:
            written = [Written(t.seq, t.message.role, t.status) for t in session.turns if t.run_id == request.run_id]
            repeat = repeated(written, [m.role for m in request.messages], request.expected_seq)
            if repeat is not None:
                window = _window(session.turns[: repeat.last_seq - len(request.messages)], request.window)
                answer = None if repeat.answer is None else session.turns[repeat.answer - 1]
                return Appended(repeat.last_seq, window=window, answer=answer)
        last = len(session.turns)
        if request.expected_seq >= 0 and request.expected_seq != last:
            raise Conflict(
                f"session {request.session_id} is at turn {last}, not {request.expected_seq}: read it again",
                session_id=request.session_id,
                last_seq=last,
            )
        window = _window(session.turns, request.window)
        session.turns += [
            Turn(last + i, message, request.run_id, request.agent, request.status, now_us)
            for i, message in enumerate(request.messages, 1)
        ]
        session.info = msgspec.structs.replace(session.info, updated_us=now_us, turns=len(session.turns))
        self._keep(key, session)
        return Appended(len(session.turns), created=created, window=window)

    async def create(self, request: CreateSession, now_us: int) -> SessionInfo:
        key = (request.tenant, request.session_id)
        if key in self._sessions:
            raise Conflict(
                f"session {request.session_id} exists already: choose another id", session_id=request.session_id
            )
        info = SessionInfo(
            request.session_id, request.tenant, request.user_id, now_us, now_us, metadata=dict(request.metadata)
        )
        self._keep(key, _Session(info))
        return info

    async def get(self, request: GetSession) -> SessionInfo:
        return self._find(request.tenant, request.session_id).info

    async def history(self, request: GetHistory) -> History:
        session = self._find(request.tenant, request.session_id)
        after = max(request.after, len(session.turns) - request.limit) if request.tail else request.after
        return History(session.info, session.turns[after : after + request.limit])

    async def delete(self, request: DeleteSession) -> None:
        self._find(request.tenant, request.session_id)
        del self._sessions[request.tenant, request.session_id]

    def _find(self, tenant: str, session_id: str) -> _Session:
        try:
            return self._sessions[tenant, session_id]
        except KeyError:
            raise NotFound(f"there is no session {session_id}", kind="session", id=session_id) from None

    def _keep(self, key: Key, session: _Session) -> None:
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)


def _window(turns: list[Turn], size: int) -> list[Turn]:
    return turns[-size:] if size else []
