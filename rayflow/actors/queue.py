"""The line of a session, where it must survive: runs that have to wait are records until they are over.

That is for runs whose client can come back for the answer (it sent an idempotency key) or does not mind to leave
(`outlives`). Who only waits on a connection is told that it broke, and asks again; to answer both would answer twice.
A run that need not wait is no record and pays nothing.

A router that starts takes over what the router of its address held, in its order, and runs it under the same ids: what
of it is in the session already is recognised. The record goes when the run is over, so that one which a crash met at
work is worked on again. Its predecessor may still be alive, to finish what it has before it goes: that is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from rayflow.actors.answered import REMEMBERED_S
from rayflow.actors.persistence import persist
from rayflow.clock import Clock, deadline
from rayflow.errors import WorkflowError
from rayflow.messages import (
    EraseUser,
    GetRuns,
    Payload,
    ReadRecords,
    Records,
    RecordWrite,
    RunIds,
    RunRequest,
    WriteRecords,
)
from rayflow.messages.records import MAX_VALUE_BYTES, MAX_WRITE_BYTES, QUEUE
from rayflow.policies.placement import owner, record_shard
from rayflow.runtime.ports import Fabric, RecordStore

KIND = "run"
KEPT_S = REMEMBERED_S
"""What nobody has taken over for so long is dropped."""
MOST_ATTEMPTS = 10
"""Crashes of whoever works on a run, after which it is dropped: it may be their cause."""
MOST_AT_ONCE = MAX_WRITE_BYTES // MAX_VALUE_BYTES
"""Records of one write, which then never has too many bytes."""
ASK_S = 5.0
PREDECESSOR_S = 1.0

log = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True):
    """`order`: lower ones go first. `router`: who holds it."""

    order: int
    router: str
    request: RunRequest


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Held).decode


def lasts(request: RunRequest) -> bool:
    """Whether this run is kept where it has to wait."""
    return request.repeatable or request.outlives


def forgetting(run_id: str) -> WriteRecords:
    """What makes a run that was kept be kept no more."""
    return WriteRecords("", QUEUE, [RecordWrite(KIND, run_id, None)])


async def erase_waiting(store: RecordStore, user: EraseUser, now_us: int) -> int:
    """For the store actor: what a user said that waits. Returns how many messages there were."""
    found = [held.request async for held in _all(lambda read: store.read_records(read, now_us))]
    theirs = [each.run_id for each in found if (each.tenant, each.user_id) == (user.tenant, user.user_id)]
    for run_id in theirs:
        await store.write_records(forgetting(run_id), now_us)
    return len(theirs)


async def _all(ask: Callable[[ReadRecords], Awaitable[Records]]) -> AsyncGenerator[Held, None]:
    """Everything that is held, page after page."""
    read, more = ReadRecords("", QUEUE, KIND), True
    while more:
        page = await ask(read)
        for record in page.records:
            yield _decode(record.value)
        more = page.more
        if more:
            read = replace(read, after=page.records[-1].name)


class Queue:
    """What the router at `address` holds; `routers` are all that there are."""

    def __init__(
        self, address: str, routers: Sequence[str], shards: Sequence[str], fabric: Fabric, clock: Clock
    ) -> None:
        self._address = address
        self._routers = routers
        self._store = record_shard("", QUEUE, shards)
        self._fabric = fabric
        self._clock = clock
        self._last = 0
        self._held: set[str] = set()
        self._forgetting: set[asyncio.Task[None]] = set()
        self._closed = False

    async def keep(self, request: RunRequest) -> None:
        """It has to wait. Raises `WorkflowError` where it cannot be kept: then it must not wait as if it were."""
        if lasts(request):
            self._held.add(request.run_id)
            self._last = max(self._clock.wall_us(), self._last + 1)
            await self._write([Held(self._last, self._address, request)])

    def claims(self, request: RunRequest) -> bool:
        """Whether another router may hold this run, which was asked of this one while that one is away: then it is to
        be kept here, though it need not wait, so that the other one leaves it alone when it is back."""
        if not lasts(request) or len(self._routers) == 1:
            return False
        return request.attempt > 0 or owner(request.session_id, self._routers) != self._address

    def over(self, request: RunRequest) -> None:
        """It has ended, one way or the other. One that was asked for again may be held by a router that died."""
        held = request.run_id in self._held or (request.attempt > 0 and lasts(request))
        if held and not self._closed:
            self._held.discard(request.run_id)
            task = asyncio.get_running_loop().create_task(self._forget(request.run_id))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def take_over(self) -> list[RunRequest]:
        """What was held here and is nobody's now, in order. Raises `WorkflowError` where that cannot be learnt."""
        found = [held async for held in _all(self._ask) if self._inherits(held)]
        alive = await self._predecessor() if found else ()
        mine, spent = list[Held](), list[Held]()
        for held in sorted(found, key=lambda held: held.order):
            if held.request.run_id not in alive:
                again = replace(held.request, attempt=held.request.attempt + 1, client="", stream=False, progress=False)
                again = replace(again, multitask="enqueue")
                tried = Held(held.order, self._address, again)
                (mine if again.attempt <= MOST_ATTEMPTS else spent).append(tried)
        self._held.update(held.request.run_id for held in (*mine, *spent))
        await self._write(mine)
        for held in spent:
            log.error("run %s is given up: %d routers died while they had it", held.request.run_id, MOST_ATTEMPTS)
            self.over(held.request)
        return [held.request for held in mine]

    async def settled(self) -> None:
        """Wait until what is over is kept no more."""
        if self._forgetting:
            await asyncio.wait(self._forgetting)

    def close(self) -> None:
        """What ends from now on was cut by the end of this router: it stays for the next one."""
        self._closed = True

    def _inherits(self, held: Held) -> bool:
        """Where there are fewer routers than there were, those that are left inherit."""
        if held.router in self._routers:
            return held.router == self._address
        return owner(held.request.session_id, self._routers) == self._address

    async def _predecessor(self) -> Collection[str]:
        """The runs of whoever still has this address."""
        try:
            runs: RunIds = await self._fabric.ask(self._address, GetRuns(), PREDECESSOR_S)
        except WorkflowError:
            return ()
        return frozenset(runs.ids)

    async def _write(self, all_held: Sequence[Held]) -> None:
        """All of them, those aside that are too large for a record."""
        expires_us = self._clock.wall_us() + round(KEPT_S * 1e6)
        packed = [(held.request.run_id, _encode(held)) for held in all_held]
        writes = [
            RecordWrite(KIND, run_id, value, expires_us=expires_us)
            for run_id, value in packed
            if len(value) <= MAX_VALUE_BYTES
        ]
        for begin in range(0, len(writes), MOST_AT_ONCE):
            await self._ask(WriteRecords("", QUEUE, writes[begin : begin + MOST_AT_ONCE]))

    async def _forget(self, run_id: str) -> None:
        deadline.set(None)  # that of the run may be over
        try:
            await self._ask(forgetting(run_id))
        except WorkflowError as error:
            log.warning("run %s is over and is kept still; it will be recognised as done: %s", run_id, error)

    async def _ask(self, message: Payload) -> Any:
        return await persist(lambda: self._fabric.ask(self._store, message, ASK_S), self._clock, repeatable=True)
