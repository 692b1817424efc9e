"""The session store actor: one shard of all sessions, and their only writer."""

from __future__ import annotations

from collections.abc import Mapping

from rayflow.actors.inflight import InFlight
from rayflow.actors.outbox import Outbox
from rayflow.clock import Clock
from rayflow.events import Event
from rayflow.messages import (
    Ack,
    Appended,
    AppendTurns,
    CreateSession,
    DeleteSession,
    GetHistory,
    GetSession,
    History,
    Payload,
    SessionInfo,
)
from rayflow.runtime.ports import Handler, SessionStore


class Sessions:
    def __init__(self, address: str, store: SessionStore, outbox: Outbox, clock: Clock) -> None:
        self._address = address
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._busy = InFlight(address)
        self._writes = 0

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            AppendTurns: self._append,
            CreateSession: self._create,
            GetSession: self._get,
            GetHistory: self._history,
            DeleteSession: self._delete,
        }

    async def start(self) -> None:
        await self._store.open()

    async def drain(self, budget_s: float) -> list[str]:
        return await self._busy.drain(budget_s)

    async def stop(self) -> None:
        self._outbox.close()
        await self._store.close()

    async def _append(self, request: AppendTurns) -> Appended:
        self._writes += 1
        with self._busy.working(f"append-{self._writes}"):
            appended = await self._store.append(request, self._clock.wall_us())
        if appended.created:
            self._record("session.created", request.tenant, request.session_id, request.user_id)
        return appended

    async def _create(self, request: CreateSession) -> SessionInfo:
        info = await self._store.create(request, self._clock.wall_us())
        self._record("session.created", request.tenant, request.session_id, request.user_id)
        return info

    async def _get(self, request: GetSession) -> SessionInfo:
        return await self._store.get(request)

    async def _history(self, request: GetHistory) -> History:
        return await self._store.history(request)

    async def _delete(self, request: DeleteSession) -> Ack:
        await self._store.delete(request)
        self._record("session.deleted", request.tenant, request.session_id, "")
        return Ack()

    def _record(self, kind: str, tenant: str, session_id: str, user_id: str) -> None:
        self._outbox.emit(
            Event(kind, self._clock.wall_us(), self._address, tenant=tenant, session_id=session_id, user_id=user_id)
        )
