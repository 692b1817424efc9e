"""The event log: says of a batch that it is safe when it is, knows one that comes again, and outlives a full disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from rayflow.actors import eventlog
from rayflow.actors.eventlog import EventLog
from rayflow.clock import ManualClock
from rayflow.errors import StorageFull, WorkflowError
from rayflow.events import Event, encode_lines
from rayflow.messages import Ack, EventBatch, FlushEvents, GetLogStats, LogStats

PATIENCE_S = 5.0


class Writer:
    """Keeps what it is given; `fault` is raised instead, `gate` is waited for. Notices two threads in it at once."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.written: list[tuple[str, int]] = []
        self.calls = 0
        self.fault: Callable[[], Exception] | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.full = False
        self.sealed = 0
        self.closed = False
        self.inside = 0
        self.most = 0

    def recover(self) -> dict[str, int]:
        return self.known

    def append(self, batches: Sequence[EventBatch]) -> None:
        self._work()
        self.calls += 1
        if self.fault is not None:
            raise self.fault()
        for batch in batches:
            assert batch.lines.count(b"\n") == batch.count
            self.written += [(batch.origin, batch.first + i) for i in range(batch.count)]

    def sync(self) -> None:
        self._work()

    def seal(self) -> bool:
        self._work()
        if not self.full:
            return False
        self.full = False
        self.sealed += 1
        return True

    def close(self) -> None:
        self._work()
        self.closed = True

    def _work(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        self.inside -= 1


class Upkeep:
    def __init__(self) -> None:
        self.calls = 0
        self.fault: Exception | None = None

    async def __call__(self) -> None:
        self.calls += 1
        if self.fault is not None:
            raise self.fault


def batch(first: int, count: int = 1, origin: str = "a", dropped: int = 0) -> EventBatch:
    events = [Event("run.started", 1, seq=seq) for seq in range(first, first + count)]
    return EventBatch(origin, first, count, encode_lines(events), dropped)


def made(writer: Writer, flush_s: float = 3600.0, upkeep: Upkeep | None = None) -> EventLog:
    return EventLog(writer, upkeep or Upkeep(), flush_s, ManualClock())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def offer(log: EventLog, *batches: EventBatch) -> list[object]:
    """What the senders of these batches hear when they are written together."""
    asked = [asyncio.create_task(log._on_events(one)) for one in batches]
    await asyncio.sleep(0)
    await log._flush()
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_a_batch_is_acknowledged_when_it_is_written_and_not_before() -> None:
    writer = Writer()
    log = made(writer)
    asked = asyncio.create_task(log._on_events(batch(0, 2)))
    await asyncio.sleep(0.01)
    assert not asked.done()
    await log._on_flush(FlushEvents())
    assert writer.written == [("a", 0), ("a", 1)]
    assert await asked == Ack()


async def test_events_are_written_by_themselves_after_a_moment_and_together() -> None:
    writer = Writer()
    log = made(writer, flush_s=0.01)
    await log.start()
    await asyncio.gather(log._on_events(batch(0)), log._on_events(batch(0, origin="b")))
    assert writer.calls == 1
    await log._on_events(batch(1))
    assert writer.written == [("a", 0), ("b", 0), ("a", 1)]
    await log.stop()
    assert writer.closed


async def test_many_events_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog, "WRITE_BYTES", 100)
    writer = Writer()
    log = made(writer)
    await log.start()
    await asyncio.wait_for(log._on_events(batch(0, 50)), PATIENCE_S)
    assert len(writer.written) == 50
    await log.stop()


async def test_a_batch_that_comes_again_is_acknowledged_and_not_written_again() -> None:
    writer = Writer()
    log = made(writer)
    await offer(log, batch(0, 3))
    assert await offer(log, batch(0, 3), batch(3, 2), batch(3, 2)) == [Ack(), Ack(), Ack()]
    assert writer.written == [("a", number) for number in range(5)]
    assert log._on_stats(GetLogStats()).repeated == 2


async def test_of_a_batch_that_is_known_in_part_the_rest_is_written() -> None:
    writer = Writer()
    log = made(writer)
    await offer(log, batch(0, 3))
    await offer(log, batch(1, 4))
    assert writer.written == [("a", number) for number in range(5)]


async def test_what_an_earlier_incarnation_wrote_is_known() -> None:
    writer = Writer()
    writer.known = {"a": 7}
    log = made(writer)
    await log.start()
    await offer(log, batch(5, 2), batch(7), batch(5, origin="b"))
    assert writer.written == [("a", 7), ("b", 5)]
    await log.stop()


async def test_what_the_disk_does_not_take_its_sender_keeps_and_may_send_again() -> None:
    writer = Writer()
    writer.fault = lambda: StorageFull("full")
    log = made(writer)
    heard = await offer(log, batch(0), batch(0, origin="b"))
    assert [type(error) for error in heard] == [StorageFull, StorageFull]
    stats = log._on_stats(GetLogStats())
    assert (stats.refused, stats.events, stats.problem) == (2, 0, "storage-full")
    writer.fault = None
    assert await offer(log, batch(0), batch(0, origin="b")) == [Ack(), Ack()]
    assert writer.written == [("a", 0), ("b", 0)]
    assert log._on_stats(GetLogStats()).problem == ""


async def test_a_full_disk_is_complained_about_but_not_all_the_time(caplog: pytest.LogCaptureFixture) -> None:
    writer = Writer()
    writer.fault = lambda: StorageFull("no space left")
    log = made(writer)
    for _ in range(5):
        await offer(log, batch(0))
    assert caplog.text.count("no space left") == 1


async def test_what_senders_had_to_drop_is_counted_also_while_the_disk_is_full() -> None:
    writer = Writer()
    writer.fault = lambda: StorageFull("full")
    log = made(writer)
    await offer(log, batch(0, dropped=5), batch(0, origin="b", dropped=2))
    await offer(log, batch(0, dropped=9))
    assert log._on_stats(GetLogStats()) == LogStats(refused=3, dropped=11, problem="storage-full")


async def test_a_sender_that_waits_no_more_does_not_hold_up_the_others() -> None:
    writer = Writer()
    log = made(writer)
    gone = asyncio.create_task(log._on_events(batch(0)))
    await asyncio.sleep(0)
    gone.cancel()
    assert await offer(log, batch(0, origin="b")) == [Ack()]
    assert ("a", 0) in writer.written
    await offer(log, batch(0))
    assert writer.written.count(("a", 0)) == 1


async def test_a_segment_that_was_closed_is_given_to_the_upkeep_whose_failure_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(eventlog, "SYNC_S", 0.001)
    monkeypatch.setattr(eventlog, "FIRST_S", 0.0)
    for fault in (None, WorkflowError("a step failed"), RuntimeError("a bug")):
        writer, upkeep = Writer(), Upkeep()
        upkeep.fault = fault
        log = made(writer, flush_s=0.001, upkeep=upkeep)
        await log.start()
        await until(lambda upkeep=upkeep: upkeep.calls == 1)  # for what was left by an earlier incarnation
        writer.full = True
        await until(lambda upkeep=upkeep: upkeep.calls == 2)
        assert writer.sealed == 1
        await asyncio.wait_for(log._on_events(batch(0)), PATIENCE_S)
        await log.stop()


async def test_stopping_waits_for_the_write_under_way() -> None:
    writer = Writer()
    log = made(writer, flush_s=0.001)
    await log.start()
    await until(lambda: not writer.inside)
    writer.entered.clear()
    writer.gate.clear()
    first = asyncio.create_task(log._on_events(batch(0)))
    await asyncio.to_thread(writer.entered.wait, PATIENCE_S)
    second = asyncio.create_task(log._on_events(batch(1)))
    stopping = asyncio.create_task(log.stop())
    await asyncio.sleep(0.02)
    writer.gate.set()
    await asyncio.wait_for(stopping, PATIENCE_S)
    assert await asyncio.gather(first, second) == [Ack(), Ack()]
    assert writer.written == [("a", 0), ("a", 1)]
    assert writer.closed
    assert writer.most == 1, "the writer is no thread's but one's"


async def test_who_asks_for_a_flush_and_goes_away_does_not_break_it_off() -> None:
    writer = Writer()
    log = made(writer)
    asked = asyncio.create_task(log._on_events(batch(0)))
    await asyncio.sleep(0)
    writer.gate.clear()
    flushing = asyncio.create_task(log._on_flush(FlushEvents()))
    await asyncio.to_thread(writer.entered.wait, PATIENCE_S)
    flushing.cancel()
    other = asyncio.create_task(log._flush())
    await asyncio.sleep(0.02)
    writer.gate.set()
    await other
    assert await asked == Ack()
    assert writer.most == 1


async def test_a_drain_writes_everything() -> None:
    writer = Writer()
    log = made(writer)
    asked = asyncio.create_task(log._on_events(batch(0)))
    await asyncio.sleep(0)
    assert await log.drain(1.0) == []
    assert await asked == Ack()
