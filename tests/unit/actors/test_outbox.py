"""Events on their way to the log: in batches, in order, kept while there is no log."""

from __future__ import annotations

import asyncio

import pytest

from rayflow.actors import outbox
from rayflow.actors.outbox import Outbox
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.events import Event
from rayflow.messages import EventBatch

PATIENCE_S = 5.0


class Log:
    def __init__(self, fabric: InProcessFabric, *, bound: bool = True) -> None:
        self._fabric = fabric
        self.batches: list[list[int]] = []
        self.came = asyncio.Event()
        if bound:
            self.bind()

    def bind(self) -> None:
        self._fabric.bind("eventlog/0", {EventBatch: self._take})

    def _take(self, batch: EventBatch) -> None:
        self.batches.append([event.seq for event in batch.events])
        self.came.set()

    async def next(self) -> None:
        await asyncio.wait_for(self.came.wait(), PATIENCE_S)
        self.came.clear()


def event(seq: int) -> Event:
    return Event("run.started", 1, seq=seq)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "COLLECT_S", 0.001)


async def test_events_of_a_moment_travel_together_in_order() -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    for seq in range(5):
        box.emit(event(seq))
    await log.next()
    assert log.batches == [[0, 1, 2, 3, 4]]
    box.emit(event(5))
    await log.next()
    assert log.batches[1:] == [[5]]


async def test_a_large_batch_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "COLLECT_S", 3600)
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    for seq in range(outbox.MAX_BATCH):
        box.emit(event(seq))
    await log.next()
    assert [len(batch) for batch in log.batches] == [outbox.MAX_BATCH]
    box.close()


async def test_events_wait_for_a_log_that_is_being_restarted() -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric, bound=False), Outbox(fabric)
    box.emit(event(1))
    box.flush()
    box.emit(event(2))
    log.bind()
    await log.next()
    assert log.batches == [[1, 2]]


async def test_without_a_log_only_the_newest_events_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_KEPT", 10)
    fabric = InProcessFabric()
    log, box = Log(fabric, bound=False), Outbox(fabric)
    for seq in range(25):
        box.emit(event(seq))
    log.bind()
    box.flush()
    await log.next()
    assert log.batches == [list(range(15, 25))]


async def test_closing_sends_the_rest_and_leaves_no_timer() -> None:
    fabric = InProcessFabric()
    log, box = Log(fabric), Outbox(fabric)
    box.emit(event(1))
    box.close()
    await log.next()
    assert log.batches == [[1]]
    assert box._timer is None


async def test_a_workflow_without_an_event_log_collects_nothing() -> None:
    box = Outbox(InProcessFabric(), enabled=False)
    box.emit(event(1))
    assert box._timer is None
    box.close()
