"""Events on their way to the log: in batches, in order, numbered, kept until the log has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support.batches import events_of

from rayflow.actors import outbox
from rayflow.actors.outbox import Outbox
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import StorageFull
from rayflow.events import Event
from rayflow.messages import EventBatch

PATIENCE_S = 5.0


class Log:
    """Takes batches; `fault` is raised instead."""

    def __init__(self, fabric: InProcessFabric, *, bound: bool = True) -> None:
        self._fabric = fabric
        self.batches: list[EventBatch] = []
        self.offered = 0
        self.fault: Callable[[], Exception] | None = None
        if bound:
            self.bind()

    @property
    def seqs(self) -> list[list[int]]:
        return [[event.seq for event in events_of(batch)] for batch in self.batches]

    def bind(self) -> None:
        self._fabric.bind("eventlog/0", {EventBatch: self._take})

    def _take(self, batch: EventBatch) -> None:
        self.offered += 1
        if self.fault is not None:
            raise self.fault()
        self.batches.append(batch)


def event(seq: int) -> Event:
    return Event("run.started", 1, seq=seq)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "COLLECT_S", 0.001)
    monkeypatch.setattr(outbox, "RETRY_S", 0.001)


async def test_events_of_a_moment_travel_together_in_order() -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    for seq in range(5):
        box.emit(event(seq))
    await until(lambda: log.seqs == [[0, 1, 2, 3, 4]])
    box.emit(event(5))
    await until(lambda: log.seqs[1:] == [[5]])


async def test_batches_are_numbered_through_and_no_two_senders_have_the_same_name() -> None:
    fabric = InProcessFabric()
    log, box, other = Log(fabric), Outbox(fabric), Outbox(fabric)
    for seq in range(3):
        box.emit(event(seq))
    await box.settle()
    box.emit(event(3))
    await box.settle()
    other.emit(event(9))
    await other.settle()
    assert [(batch.first, batch.count) for batch in log.batches] == [(0, 3), (3, 1), (0, 1)]
    assert log.batches[0].origin == log.batches[1].origin != log.batches[2].origin


async def test_a_large_batch_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "COLLECT_S", 3600)
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    for seq in range(outbox.SEND_NOW):
        box.emit(event(seq))
    await until(lambda: [len(batch) for batch in log.seqs] == [outbox.SEND_NOW])
    box.close()


async def test_large_events_travel_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_BATCH_BYTES", 1000)
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    for seq in range(20):
        box.emit(Event("run.started", 1, seq=seq, content="x" * 300 * (seq % 5)))
    await box.settle()
    assert [seq for batch in log.seqs for seq in batch] == list(range(20))
    assert all(len(batch.lines) <= 1000 or batch.count == 1 for batch in log.batches)


async def test_events_wait_for_a_log_that_is_being_restarted() -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric, bound=False), Outbox(fabric)
    box.emit(event(1))
    box.flush()
    await asyncio.sleep(0.01)
    box.emit(event(2))
    log.bind()
    await box.settle()
    assert log.seqs == [[1], [2]]


async def test_a_batch_that_is_not_acknowledged_is_sent_again_as_it_was() -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    log.fault = lambda: StorageFull("full")
    box.emit(event(1))
    await until(lambda: log.offered >= 3)
    box.emit(event(2))
    log.fault = None
    await box.settle()
    assert log.seqs == [[1], [2]]
    assert [(batch.first, batch.count) for batch in log.batches] == [(0, 1), (1, 1)]


async def test_without_a_log_only_the_newest_events_are_kept_and_the_log_hears_of_the_loss(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric, limit=10, source="router/0")
    log.fault = lambda: StorageFull("full")
    box.emit(event(0))
    await until(lambda: log.offered >= 1)
    for seq in range(1, 25):
        box.emit(event(seq))
    assert box.dropped == 14
    assert "storage-full" in caplog.text
    log.fault = None
    await box.settle()
    told = [found for batch in log.batches for found in events_of(batch) if found.kind == "eventlog.dropped"]
    assert [(found.source, found.data) for found in told] == [("router/0", {"events": 14, "reason": "storage-full"})]
    assert log.batches[-1].dropped == 14
    kept = [seq for batch in log.batches for seq in (found.seq for found in events_of(batch)) if seq]
    assert kept == list(range(15, 25))


async def test_closing_sends_the_rest_and_leaves_no_timer() -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    box.emit(event(1))
    box.close()
    await until(lambda: log.seqs == [[1]])
    assert box._timer is None


async def test_closing_sends_again_what_is_not_acknowledged() -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    log.fault = lambda: StorageFull("full")
    box.emit(event(1))
    await until(lambda: log.offered >= 1)
    log.fault = None
    box.emit(event(2))
    box.close()
    await until(lambda: [seq for batch in log.seqs for seq in batch] == [1, 2])


async def test_a_workflow_without_an_event_log_collects_nothing() -> None:
    box = Outbox(InProcessFabric(), enabled=False)
    box.emit(event(1))
    assert box._timer is None
    box.close()
