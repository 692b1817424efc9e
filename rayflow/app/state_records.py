"""How a working state lies in the records of its session, and how to find back in its history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec

from rayflow.app.client import SystemClient
from rayflow.errors import Conflict, NotFound
from rayflow.messages import EraseRecords, GetSession, ReadRecords, Record, RecordWrite, SessionInfo, WriteRecords
from rayflow.messages.records import of_session
from rayflow.policies.state import CHECKPOINT, DELTA, HEAD, STATE, Checkpoint, Delta, State, delta_name, undone

PAGE = 100
"""Deltas that are read at once."""

_lines: WeakKeyDictionary[SystemClient, WeakValueDictionary[tuple[str, str], asyncio.Lock]] = WeakKeyDictionary()
"""The locks of those who write now, by client, tenant and session."""


class StateRecords:
    """Of one session. All methods raise what asking its store raises."""

    def __init__(self, client: SystemClient, tenant: str, session_id: str) -> None:
        self._client = client
        self._tenant = tenant
        self._session_id = session_id
        self._owner = of_session(session_id)

    async def session(self) -> SessionInfo:
        return await self._client.session(GetSession(self._tenant, self._session_id))

    async def open_session(self) -> SessionInfo:
        """Raises `Conflict` where it is closed."""
        info = await self.session()
        if info.closed_us:
            raise Conflict(f"session {self._session_id} is closed: fork it to go on", session_id=self._session_id)
        return info

    async def head(self) -> tuple[State, int]:
        """The state, and the version of its record."""
        found = await self._read(STATE, [HEAD])
        return (msgspec.json.decode(found[0].value, type=State), found[0].version) if found else (State(), 0)

    async def at(self, head: State, version: int) -> State:
        """An earlier version. Raises `NotFound` where the history does not reach so far."""
        if version == head.version:
            return head
        if not head.oldest <= version < head.version:
            raise NotFound(
                f"there is no version {version} of the state of session {self._session_id}: its history has"
                f" {head.oldest} to {head.version}",
                kind="state version",
                id=str(version),
            )
        # The version's own delta says when it was made; the oldest one has none any more.
        deltas = await self.deltas(max(version, head.oldest + 1), head.version)
        own = next((delta for delta in deltas if delta.version == version), None)
        values = head.values
        for delta in reversed(deltas):
            if delta.version > version:
                values = undone(values, delta.changes)
        schema_version = (own or deltas[0]).schema_version
        return State(version, schema_version, values, own.created_us if own else 0, head.oldest)

    async def as_of(self, turn: int) -> State:
        """The last version that was there before the turn after this one, or the present one."""
        head, _ = await self.head()
        deltas = await self.deltas(head.oldest + 1, head.version)
        version = next((delta.version for delta in reversed(deltas) if delta.turn <= turn), head.oldest)
        known = version > head.oldest or head.oldest == 0
        return await self.at(head, version) if known else head

    async def deltas(self, first: int, last: int) -> list[Delta]:
        """Those of the versions `first` to `last`, in their order. Raises `Conflict` where one is gone by now."""
        found: list[Delta] = []
        while first + len(found) <= last:
            after, limit = delta_name(first + len(found) - 1), min(PAGE, last - first - len(found) + 1)
            page = await self._client.shards.records(ReadRecords(self._tenant, self._owner, DELTA, [], after, limit))
            found += [msgspec.json.decode(record.value, type=Delta) for record in page.records]
            if not page.records or found[-1].version != first + len(found) - 1:
                raise Conflict(
                    f"the history of the state of session {self._session_id} changed while it was read: read it again",
                    session_id=self._session_id,
                )
        return found

    async def checkpoint(self, name: str) -> Checkpoint:
        """Raises `NotFound`."""
        found = await self._read(CHECKPOINT, [name])
        if not found:
            raise self.no_checkpoint(name)
        return msgspec.json.decode(found[0].value, type=Checkpoint)

    async def write(self, head: State, record_version: int, others: list[RecordWrite]) -> None:
        """All at once. Raises `Conflict` where the head has another version than was read."""
        write = RecordWrite(STATE, HEAD, msgspec.json.encode(head), record_version)
        await self._client.shards.records(WriteRecords(self._tenant, self._owner, [write, *others]))
        try:
            await self.session()
        except NotFound:
            # It was deleted since it was looked at, and what is erased must not come back.
            await self._client.shards.records(EraseRecords(self._tenant, self._owner))
            raise

    async def written(self, version: int, write_id: str) -> bool:
        """Whether a write whose reply was lost has been made."""
        found = await self._read(DELTA, [delta_name(version)])
        return bool(found) and msgspec.json.decode(found[0].value, type=Delta).write_id == write_id

    def line(self) -> asyncio.Lock:
        """Those of this process who change the state, one after the other."""
        lines = _lines.setdefault(self._client, WeakValueDictionary())
        return lines.setdefault((self._tenant, self._session_id), asyncio.Lock())

    def no_checkpoint(self, name: str) -> NotFound:
        return NotFound(
            f"session {self._session_id} has no checkpoint {name[:255]!r}", kind="checkpoint", id=name[:255]
        )

    async def _read(self, kind: str, names: list[str]) -> Sequence[Record]:
        return (await self._client.shards.records(ReadRecords(self._tenant, self._owner, kind, names))).records
