"""The event log actor: collects events from everybody and hands them to the writer in a thread.

A batch is written about every `flush_s`. When the disk does not take it, events stay in memory up to a limit and the
oldest go first, counted: a full disk stops logging, never the service.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

from rayflow.clock import Clock
from rayflow.errors import StorageError
from rayflow.events import Event
from rayflow.messages import Ack, EventBatch, FlushEvents, Payload
from rayflow.runtime.ports import EventWriter, Handler

log = logging.getLogger(__name__)

TIDY_S = 60.0


class EventLog:
    def __init__(self, writer: EventWriter, flush_s: float, max_buffered: int, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._flush_s = flush_s
        self._events: deque[Event] = deque(maxlen=max_buffered)
        self._writing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {EventBatch: self._on_events, FlushEvents: self._on_flush}

    async def start(self) -> None:
        self._task = asyncio.create_task(self._work())

    async def drain(self, budget_s: float) -> list[str]:
        await self._flush()
        return []

    async def stop(self) -> None:
        """What is being written is written to its end first: the writer belongs to one thread at a time."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        await self._flush()
        async with self._writing:
            await asyncio.to_thread(self._writer.close)

    def _on_events(self, batch: EventBatch) -> None:
        room = (self._events.maxlen or 0) - len(self._events)
        self.dropped += max(0, len(batch.events) - room)
        self._events.extend(batch.events)

    async def _on_flush(self, _: FlushEvents) -> Ack:
        await self._flush()
        return Ack()

    async def _work(self) -> None:
        tidied = self._clock.now()
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._flush_s)
            await self._flush()
            if self._clock.now() - tidied >= TIDY_S:
                tidied = self._clock.now()
                await self._tidy()

    async def _tidy(self) -> None:
        try:
            async with self._writing:
                await asyncio.to_thread(self._writer.tidy)
        except StorageError as error:
            log.error("the event log was not tidied: %s", error.message)
        except Exception:
            log.exception("the event log was not tidied")

    async def _flush(self) -> None:
        async with self._writing:
            if not self._events:
                return
            batch = list(self._events)
            self._events.clear()
            try:
                await asyncio.to_thread(self._writer.write, batch)
            except StorageError as error:
                log.error("%s (%d events wait in memory, %d dropped so far)", error.message, len(batch), self.dropped)
                self._keep(batch)
            except Exception:
                # A bug or a value that no column takes: without this batch the log goes on.
                self.dropped += len(batch)
                log.exception("dropped %d events that cannot be written", len(batch))

    def _keep(self, batch: list[Event]) -> None:
        """Put a batch that could not be written back in front."""
        later = list(self._events)
        self._events.clear()
        self._on_events(EventBatch(batch + later))
