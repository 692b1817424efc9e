"""The event log actor: takes batches of events from everybody, and answers when they are on disk.

Batches are taken as they are; nobody looks into them here. Those of a moment are written together, in a thread, and
each sender hears whether its own is safe. Where the disk does not take them, the senders keep them and try again: a
full disk stops logging, never the service. The numbers of the last events of every sender tell a batch that is sent
again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from rayflow.clock import Clock
from rayflow.errors import StorageError, WorkflowError
from rayflow.messages import Ack, EventBatch, FlushEvents, GetLogStats, LogStats, Payload
from rayflow.runtime.ports import EventWriter, Handler

log = logging.getLogger(__name__)

WRITE_BYTES = 1 << 20
"""So much does not wait for the moment to be over."""
SYNC_S = 5.0
"""A power cut costs the events of so many seconds; the death of a process costs none."""
UPKEEP_S = 3600.0
FIRST_S = 60.0
COMPLAIN_S = 60.0


class EventLog:
    """`flush_s`: after so long, events are on disk and can be queried. `upkeep`: does what is to be done about segments
    that are closed."""

    def __init__(
        self, writer: EventWriter, upkeep: Callable[[], Awaitable[object]], flush_s: float, clock: Clock
    ) -> None:
        self._writer = writer
        self._upkeep = upkeep
        self._clock = clock
        self._wait_s = flush_s / 4  # a batch may have to wait for the one before it, and for whoever asks
        self._waiting: list[tuple[EventBatch, asyncio.Future[None]]] = []
        self._waiting_bytes = 0
        self._next: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._complained = -COMPLAIN_S
        self._stats = dict.fromkeys(("events", "batches", "bytes", "repeated", "refused"), 0)
        self._problem = ""

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {EventBatch: self._on_events, FlushEvents: self._on_flush, GetLogStats: self._on_stats}

    async def start(self) -> None:
        self._next = await asyncio.to_thread(self._writer.recover)
        self._tasks = [asyncio.create_task(self._write_on()), asyncio.create_task(self._keep_up())]

    async def drain(self, budget_s: float) -> list[str]:
        await self._flush()
        return []

    async def stop(self) -> None:
        """What is being written is written to its end first: the writer belongs to one thread at a time."""
        async with self._writing:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush()
        async with self._writing:
            await asyncio.to_thread(self._writer.close)

    async def _on_events(self, batch: EventBatch) -> Ack:
        """Raises `StorageFull` and `StorageError`: the sender is to keep it."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, written))
        if batch.dropped:
            self._dropped[batch.origin] = batch.dropped
        self._waiting_bytes += len(batch.lines)
        self._some.set()
        if self._waiting_bytes >= WRITE_BYTES:
            self._many.set()
        await written
        return Ack()

    async def _on_flush(self, _: FlushEvents) -> Ack:
        # The writer belongs to one thread at a time, also when the one who asked waits no more.
        await asyncio.shield(asyncio.create_task(self._flush()))
        return Ack()

    def _on_stats(self, _: GetLogStats) -> LogStats:
        return LogStats(**self._stats, dropped=sum(self._dropped.values()), problem=self._problem)

    async def _write_on(self) -> None:
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._many.wait(), self._wait_s)
            await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            self._some.clear()
            self._many.clear()
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if not waiting:
                return
            known = dict(self._next)
            batches = [new for batch, _ in waiting if (new := _unknown(batch, known)) is not None]
            error: Exception | None = None
            try:
                if batches:
                    await asyncio.to_thread(self._writer.append, batches)
            except Exception as problem:
                error = problem
                self._refused(batches, problem)
            else:
                self._next = known
                self._written(batches, len(waiting))
            for _, written in waiting:
                if written.done():
                    continue  # its sender does not wait any more, and will send it again
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)

    def _written(self, batches: list[EventBatch], offered: int) -> None:
        self._problem = ""
        self._stats["batches"] += len(batches)
        self._stats["events"] += sum(batch.count for batch in batches)
        self._stats["bytes"] += sum(len(batch.lines) for batch in batches)
        self._stats["repeated"] += offered - len(batches)

    def _refused(self, batches: list[EventBatch], problem: Exception) -> None:
        self._stats["refused"] += len(batches)
        self._problem = problem.slug if isinstance(problem, WorkflowError) else "internal"
        if self._clock.now() - self._complained >= COMPLAIN_S:
            self._complained = self._clock.now()
            if isinstance(problem, StorageError):
                log.error("%s; the actors keep their events and try again", problem.message)
            else:
                log.error("events cannot be written; the actors keep them and try again", exc_info=problem)

    async def _keep_up(self) -> None:
        """What was left open by another incarnation is rolled when the start is over: it can be read as it is."""
        done = self._clock.now() - UPKEEP_S + FIRST_S
        while True:
            if await self._seal() or self._clock.now() - done >= UPKEEP_S:
                done = self._clock.now()
                try:
                    await self._upkeep()
                except Exception:
                    log.exception("the upkeep of the event log failed")
            await asyncio.sleep(SYNC_S)

    async def _seal(self) -> bool:
        try:
            async with self._writing:
                await asyncio.to_thread(self._writer.sync)
                return await asyncio.to_thread(self._writer.seal)
        except StorageError as problem:
            log.error("%s", problem.message)
            return False


def _unknown(batch: EventBatch, known: dict[str, int]) -> EventBatch | None:
    """What of it is not in the log yet."""
    following = known.get(batch.origin, 0)
    end = batch.first + batch.count
    if end <= following:
        return None
    known[batch.origin] = end
    return batch.after(following)
