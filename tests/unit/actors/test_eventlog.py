"""The event log: a full disk stops logging, never the service, and costs the oldest events only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from actor_doubles import settle

from rayflow.actors import eventlog
from rayflow.actors.eventlog import EventLog
from rayflow.clock import ManualClock
from rayflow.errors import StorageFull
from rayflow.events import Event
from rayflow.messages import EventBatch, FlushEvents

PATIENCE_S = 5.0


class Writer:
    """Keeps what it is given; `fault` is raised instead, `gate` is waited for. Notices two threads in it at once."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.fault: Callable[[], Exception] | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.tidied = 0
        self.closed = False
        self.inside = 0
        self.most = 0

    def write(self, events: list[Event]) -> None:
        self._work()
        if self.fault is not None:
            raise self.fault()
        self.written += [event.seq for event in events]

    def tidy(self) -> None:
        self._work()
        self.tidied += 1
        if self.fault is not None:
            raise self.fault()

    def close(self) -> None:
        self._work()
        self.closed = True

    def _work(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        self.inside -= 1


def batch(*seqs: int) -> EventBatch:
    return EventBatch([Event("run.started", 1, seq=seq) for seq in seqs])


def made(writer: Writer, flush_s: float = 3600.0, limit: int = 100, clock: ManualClock | None = None) -> EventLog:
    return EventLog(writer, flush_s, limit, clock or ManualClock())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_flush_is_answered_when_events_are_written() -> None:
    writer = Writer()
    log = made(writer)
    log._on_events(batch(1, 2))
    await log._on_flush(FlushEvents())
    assert writer.written == [1, 2]
    await log._on_flush(FlushEvents())
    assert writer.written == [1, 2]


async def test_events_are_written_by_themselves_after_a_moment() -> None:
    writer = Writer()
    log = made(writer, flush_s=0.001)
    await log.start()
    log._on_events(batch(1))
    await until(lambda: writer.written == [1])
    log._on_events(batch(2))
    await until(lambda: writer.written == [1, 2])
    await log.stop()
    assert writer.closed


async def test_a_full_disk_keeps_events_until_there_is_room() -> None:
    writer = Writer()
    writer.fault = lambda: StorageFull("full")
    log = made(writer)
    log._on_events(batch(1, 2))
    await log._flush()
    log._on_events(batch(3))
    await log._flush()
    assert (writer.written, log.dropped) == ([], 0)
    writer.fault = None
    await log._flush()
    assert writer.written == [1, 2, 3]


async def test_beyond_the_limit_the_oldest_go_and_are_counted() -> None:
    writer = Writer()
    writer.fault = lambda: StorageFull("full")
    log = made(writer, limit=4)
    log._on_events(batch(1, 2, 3))
    await log._flush()
    log._on_events(batch(4, 5, 6))
    await log._flush()
    assert log.dropped == 2
    log._on_events(batch(*range(7, 20)))
    assert log.dropped == 15
    writer.fault = None
    await log._flush()
    assert writer.written == [16, 17, 18, 19]


async def test_events_that_come_during_a_write_that_fails_stay_behind_it() -> None:
    writer = Writer()
    writer.gate.clear()
    writer.fault = lambda: StorageFull("full")
    log = made(writer)
    log._on_events(batch(1))
    flushing = asyncio.create_task(log._flush())
    await asyncio.to_thread(writer.entered.wait, PATIENCE_S)
    log._on_events(batch(2))
    writer.gate.set()
    await flushing
    writer.fault = None
    await log._flush()
    assert writer.written == [1, 2]


async def test_a_batch_that_cannot_be_written_at_all_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    writer = Writer()
    writer.fault = lambda: TypeError("no column takes this")
    log = made(writer)
    log._on_events(batch(1, 2))
    await log._flush()
    assert log.dropped == 2
    assert "no column takes this" in caplog.text
    writer.fault = None
    log._on_events(batch(3))
    await log._flush()
    assert writer.written == [3]


async def test_housekeeping_is_done_now_and_then_and_its_failure_stops_nothing() -> None:
    for fault in (StorageFull("full"), RuntimeError("a bug")):
        writer, clock = Writer(), ManualClock()
        log = made(writer, flush_s=0.001, clock=clock)
        await log.start()
        writer.fault = lambda fault=fault: fault
        await settle()
        clock.advance(eventlog.TIDY_S)
        await until(lambda writer=writer: writer.tidied == 1)
        writer.fault = None
        log._on_events(batch(1))
        await until(lambda writer=writer: writer.written == [1])
        await log.stop()


async def test_stopping_waits_for_the_write_under_way() -> None:
    writer = Writer()
    log = made(writer, flush_s=0.001)
    await log.start()
    writer.gate.clear()
    log._on_events(batch(1))
    await asyncio.to_thread(writer.entered.wait, PATIENCE_S)
    log._on_events(batch(2))
    stopping = asyncio.create_task(log.stop())
    await settle()
    await asyncio.sleep(0.02)
    writer.gate.set()
    await asyncio.wait_for(stopping, PATIENCE_S)
    assert writer.written == [1, 2]
    assert writer.closed
    assert writer.most == 1, "the writer is no thread's but one's"


async def test_a_flush_during_housekeeping_waits_for_it() -> None:
    writer = Writer()
    log = made(writer)
    writer.gate.clear()
    tidying = asyncio.create_task(log._tidy())
    await asyncio.to_thread(writer.entered.wait, PATIENCE_S)
    log._on_events(batch(1))
    flushing = asyncio.create_task(log._flush())
    await asyncio.sleep(0.02)
    writer.gate.set()
    await asyncio.gather(tidying, flushing)
    assert writer.most == 1


async def test_a_drain_writes_everything() -> None:
    writer = Writer()
    log = made(writer)
    log._on_events(batch(1))
    assert await log.drain(1.0) == []
    assert writer.written == [1]
