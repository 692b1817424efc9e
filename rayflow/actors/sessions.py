"""The session store actor: one shard of all sessions, and their only writer.

Records that have expired are deleted, and, where the configuration says so, sessions that nobody uses any more: a few
at a time, so that the living do not wait for the dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import NamedTuple

from rayflow.actors.answered import REMEMBERED_S, Answered
from rayflow.actors.inflight import InFlight
from rayflow.actors.locks import SessionLocks
from rayflow.actors.outbox import Outbox
from rayflow.actors.queue import erase_waiting
from rayflow.actors.records import RecordKeeper
from rayflow.clock import Clock
from rayflow.errors import WorkflowError
from rayflow.events import Event
from rayflow.messages import (
    Ack,
    Appended,
    AppendTurns,
    CloseSession,
    CreateSession,
    DeleteSession,
    Erased,
    EraseUser,
    ForkSession,
    GetHistory,
    GetSession,
    ImportSession,
    ListSessions,
    ListTenants,
    Payload,
    Rekeyed,
    RekeySessions,
    RollBackRun,
    SessionInfo,
    Tenants,
    UpdateSession,
)
from rayflow.runtime.ports import Handler, ShardStore

EXPIRED_AT_ONCE = 100
"""Sessions deleted in one transaction; other requests come in between."""

log = logging.getLogger(__name__)


class Expiry(NamedTuple):
    """When sessions are deleted: after `timeout_s` without use, or `max_s` after they began; 0 for never. `every_s`:
    how often that is looked at."""

    timeout_s: float
    max_s: float
    every_s: float

    @property
    def forgets(self) -> bool:
        """Whether a session may go while the keys of its requests are good still."""
        return any(0 < age_s < REMEMBERED_S for age_s in (self.timeout_s, self.max_s))


class Sessions:
    """`expiry`: None deletes nothing by itself."""

    def __init__(
        self, address: str, store: ShardStore, outbox: Outbox, clock: Clock, expiry: Expiry | None = None
    ) -> None:
        self._address = address
        self._store = store
        self._records = RecordKeeper(store, clock)
        self._locks = SessionLocks(store, clock)
        self._answered = Answered(store, clock)
        self._forgets = expiry is not None and expiry.forgets
        self._outbox = outbox
        self._clock = clock
        self._expiry = expiry
        self._cleaning: asyncio.Task[None] | None = None
        self._busy = InFlight(address)
        self._writes = 0

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            AppendTurns: self._append,
            CreateSession: self._create,
            GetSession: self._store.get,
            GetHistory: self._store.history,
            ListSessions: self._store.list,
            ListTenants: self._tenants,
            UpdateSession: self._update,
            ForkSession: self._fork,
            CloseSession: self._close,
            RollBackRun: self._roll_back,
            DeleteSession: self._delete,
            EraseUser: self._erase,
            ImportSession: self._import,
            RekeySessions: self._rekey,
            **self._records.handlers,
            **self._locks.handlers,
        }

    async def start(self) -> None:
        await self._store.open()
        if self._expiry is not None:
            self._cleaning = asyncio.create_task(self._clean(self._expiry))

    async def drain(self, budget_s: float) -> list[str]:
        return await self._busy.drain(budget_s)

    async def stop(self) -> None:
        if self._cleaning is not None:
            self._cleaning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._cleaning
        self._outbox.close()
        await self._store.close()

    # --- requests ---

    async def _append(self, request: AppendTurns) -> Appended:
        if self._locks:
            self._locks.check(request)
        self._writes += 1
        with self._busy.working(f"append-{self._writes}"):
            remembered = self._forgets and bool(request.digest)
            if remembered and (told := await self._answered.recall(request)) is not None:
                return told
            appended = await self._store.append(request, self._clock.wall_us())
            if remembered:
                await self._answered.keep(request, appended)
        if appended.created:
            self._record("session.created", request.tenant, request.session_id, request.user_id)
        return appended

    async def _create(self, request: CreateSession) -> SessionInfo:
        now_us = self._clock.wall_us()
        info = await self._store.create(request, now_us)
        if info.created_us == now_us:
            self._record("session.created", info.tenant, info.session_id, info.user_id)
        return info

    async def _tenants(self, _: ListTenants) -> Tenants:
        return Tenants(list(await self._store.tenants()))

    async def _update(self, request: UpdateSession) -> SessionInfo:
        return await self._store.update(request, self._clock.wall_us())

    async def _fork(self, request: ForkSession) -> SessionInfo:
        info = await self._store.fork(request, self._clock.wall_us())
        self._record("session.created", info.tenant, info.session_id, info.user_id)
        return info

    async def _close(self, request: CloseSession) -> SessionInfo:
        return await self._store.close_session(request, self._clock.wall_us())

    async def _roll_back(self, request: RollBackRun) -> SessionInfo:
        return await self._store.roll_back(request, self._clock.wall_us())

    async def _delete(self, request: DeleteSession) -> Ack:
        await self._answered.forget_session(request)
        await self._store.delete(request)
        self._record("session.deleted", request.tenant, request.session_id, "")
        return Ack()

    async def _erase(self, request: EraseUser) -> Erased:
        erased = await self._store.erase(request)
        beside = await self._answered.forget_user(request)
        beside += await erase_waiting(self._store, request, self._clock.wall_us())
        erased = Erased(erased.sessions, erased.records + beside)
        if erased.sessions or erased.records:
            counts = {"sessions": erased.sessions, "records": erased.records}
            self._record("user.erased", request.tenant, "", request.user_id, **counts)
        return erased

    async def _import(self, request: ImportSession) -> SessionInfo:
        return await self._store.import_session(request)

    async def _rekey(self, _: RekeySessions) -> Rekeyed:
        return Rekeyed(await self._store.rekey(), await self._store.rekey_records())

    # --- housekeeping ---

    async def _clean(self, expiry: Expiry) -> None:
        while True:
            await self._expire(expiry)
            await asyncio.sleep(expiry.every_s)

    async def _expire(self, expiry: Expiry) -> None:
        """What fails now is tried again next time."""
        expired, found = 0, EXPIRED_AT_ONCE
        try:
            while found == EXPIRED_AT_ONCE and (expiry.timeout_s or expiry.max_s):
                found = await self._store.expire(self._clock.wall_us(), expiry.timeout_s, expiry.max_s, EXPIRED_AT_ONCE)
                expired += found
            await self._records.expire()
        except WorkflowError as error:
            log.warning("%s could not delete what has expired: %s", self._address, error)
        if expired:
            self._record("session.expired", "", "", "", sessions=expired)

    def _record(self, kind: str, tenant: str, session_id: str, user_id: str, **data: int) -> None:
        self._outbox.emit(
            Event(
                kind,
                self._clock.wall_us(),
                self._address,
                tenant=tenant,
                session_id=session_id,
                user_id=user_id,
                data=dict(data),
            )
        )
