"""Locks on sessions, for clients that do several things in one and want nobody to come between.

A lock is a lease: it ends when its holder gives it back, or when its time is up, because a holder may die. It keeps
runs of others from beginning, and nothing else; who looks at a session or deletes it is not asked for one. The store of
a session is the one place that all its runs pass, so the lock is kept there, in memory: a store that is started anew
knows of none, which its holder learns by the next renewal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest

from rayflow.clock import Clock
from rayflow.errors import NotFound, SessionLocked
from rayflow.ids import new_lock_token
from rayflow.messages import Ack, AppendTurns, GetSession, LockSession, Payload, SessionLock, UnlockSession
from rayflow.runtime.ports import Handler, SessionStore

Key = tuple[str, str]


@dataclass(slots=True)
class _Lease:
    token: str
    until: float
    """On the monotonic clock."""
    freed: asyncio.Event = field(default_factory=asyncio.Event)


class SessionLocks:
    def __init__(self, store: SessionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._held: dict[Key, _Lease] = {}

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {LockSession: self._lock, UnlockSession: self._unlock}

    def __bool__(self) -> bool:
        """Whether there is any lock: hardly ever."""
        return bool(self._held)

    def check(self, request: AppendTurns) -> None:
        """Raises `SessionLocked` for the question of a run where somebody else holds the session. What a run that has
        begun before still has to write is written."""
        lease = self._alive((request.tenant, request.session_id))
        if lease is None or _same(lease.token, request.lock):
            return
        if any(message.role != "assistant" for message in request.messages):
            raise self._refusal(request.session_id, lease)

    async def _lock(self, request: LockSession) -> SessionLock:
        key = (request.tenant, request.session_id)
        await self._store.get(GetSession(*key))
        if request.token:
            return self._renewed(key, request)
        patient_until = self._clock.now() + request.wait_s
        while (lease := self._alive(key)) is not None:
            left = min(patient_until, lease.until) - self._clock.now()
            if patient_until <= self._clock.now():
                raise self._refusal(request.session_id, lease)
            try:
                async with asyncio.timeout(max(left, 0)):
                    await lease.freed.wait()
            except TimeoutError:
                continue
        token = new_lock_token()
        self._held[key] = _Lease(token, self._clock.now() + request.lease_s)
        return SessionLock(token, request.lease_s)

    def _renewed(self, key: Key, request: LockSession) -> SessionLock:
        lease = self._holders(key, request.token)
        lease.until = self._clock.now() + request.lease_s
        return SessionLock(lease.token, request.lease_s)

    def _unlock(self, request: UnlockSession) -> Ack:
        key = (request.tenant, request.session_id)
        self._holders(key, request.token)
        self._end(key)
        return Ack()

    def _holders(self, key: Key, token: str) -> _Lease:
        lease = self._alive(key)
        if lease is None or not _same(lease.token, token):
            raise NotFound(
                f"this lock of session {key[1]} is held no more: its time was up, or its store was started anew",
                kind="lock",
                id=key[1],
            )
        return lease

    def _alive(self, key: Key) -> _Lease | None:
        lease = self._held.get(key)
        if lease is not None and lease.until <= self._clock.now():
            self._end(key)
            return None
        return lease

    def _end(self, key: Key) -> None:
        self._held.pop(key).freed.set()

    def _refusal(self, session_id: str, lease: _Lease) -> SessionLocked:
        left_s = max(lease.until - self._clock.now(), 0.0)
        return SessionLocked(
            f"somebody else has locked session {session_id}, for {left_s:.1f} s at most: try again then",
            session_id=session_id,
            retry_after_s=left_s,
        )


def _same(token: str, shown: str) -> bool:
    return compare_digest(token.encode(), shown.encode())
