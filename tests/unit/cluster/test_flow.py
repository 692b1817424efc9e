"""The two ends of a stream, with the messages between them in the test's hands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.cluster.fabric.flow import WINDOW_BYTES, WINDOW_ITEMS, StreamInlet, StreamOutlet
from rayflow.errors import Cancelled, DeadlineExceeded, FrameInvalid, PeerLost, WorkflowError
from rayflow.messages import Payload, Token

PATIENCE_S = 5.0


def token(number: int, size: int = 0) -> Token:
    return Token("r", number, "a", ["x" * size])


class Wire:
    """Keeps what the ends say until the test delivers it. An item is as large as its text, and 10 more."""

    def __init__(self) -> None:
        self.outlet = StreamOutlet(self, 1)
        self.inlet = StreamInlet(self, 1)
        self.to_reader: list[tuple[Any, ...]] = []
        self.to_writer: list[tuple[Any, ...]] = []

    def item(self, number: int, item: Payload) -> int:
        assert isinstance(item, Token)
        size = 10 + len(item.text)
        self.to_reader.append((self.inlet.arrive, item, size))
        return size

    def end(self, number: int) -> None:
        self.to_reader.append((self.inlet.end,))

    def credit(self, number: int, items: int, size: int) -> None:
        self.to_writer.append((self.outlet.grant, items, size))

    def close(self, number: int, error: WorkflowError) -> None:
        self.to_writer.append((self.outlet.lose, error))

    def deliver(self) -> None:
        for queue in (self.to_reader, self.to_writer):
            calls, queue[:] = list(queue), []
            for call, *args in calls:
                call(*args)


def fill(wire: Wire) -> int:
    """Offer until the window is full."""
    sent = 0
    while wire.outlet.offer(token(sent)):
        sent += 1
    return sent


def test_a_reader_that_never_reads_stops_its_writer_at_a_window_of_items() -> None:
    wire = Wire()
    assert fill(wire) == WINDOW_ITEMS
    wire.deliver()
    assert not wire.outlet.ready and not wire.outlet.lost
    assert not wire.outlet.offer(token(0))
    assert wire.to_reader == wire.to_writer == []


def test_or_at_a_window_of_bytes() -> None:
    wire = Wire()
    sent = 0
    while wire.outlet.offer(token(sent, 10_000)):
        sent += 1
    assert sent == WINDOW_BYTES // 10_010 + 1


def test_an_item_larger_than_the_window_goes_alone() -> None:
    wire = Wire()
    assert wire.outlet.offer(token(0, 2 * WINDOW_BYTES))
    assert not wire.outlet.offer(token(1))
    wire.deliver()
    assert len(wire.inlet.take()) == 1
    wire.deliver()
    assert wire.outlet.offer(token(1))


def test_reading_gives_credit_back() -> None:
    wire = Wire()
    for _ in range(5):
        assert fill(wire) == WINDOW_ITEMS
        wire.deliver()
        assert len(wire.inlet.take()) == WINDOW_ITEMS
        wire.deliver()
    assert wire.outlet.ready


@given(st.lists(st.tuples(st.sampled_from(["offer", "take", "next", "deliver"]), st.integers(0, 200_000)), max_size=60))
async def test_nothing_is_lost_nothing_grows_and_the_writer_is_never_stuck(steps: list[tuple[str, int]]) -> None:
    wire = Wire()
    sent: list[Payload] = []
    got: list[Payload] = []
    for number, (step, size) in enumerate(steps):
        match step:
            case "offer" if wire.outlet.offer(item := token(number, size)):
                sent.append(item)
            case "take":
                got += wire.inlet.take()
            case "next" if wire.inlet._held:
                got.append(await anext(wire.inlet))
            case "deliver":
                wire.deliver()
        assert len(sent) - len(got) <= WINDOW_ITEMS
        unread = sum(10 + len(item.text) for item in sent[len(got) : -1] if isinstance(item, Token))
        assert unread < WINDOW_BYTES, "but for the last, which may be larger than the rest"
    wire.deliver()
    got += wire.inlet.take()
    wire.deliver()
    assert got == sent
    assert wire.outlet.ready


def test_credit_for_what_was_not_sent_is_refused() -> None:
    for items, size in ((1, 0), (0, 1)):
        with pytest.raises(FrameInvalid, match="beyond the window"):
            Wire().outlet.grant(items, size)


async def test_the_reader_sees_the_end_after_the_last_item() -> None:
    wire = Wire()
    wire.outlet.offer(token(1))
    wire.outlet.close()
    wire.outlet.close()
    assert not wire.outlet.offer(token(2))
    wire.deliver()
    assert not wire.inlet.ended
    assert [item.seq async for item in wire.inlet] == [1]
    assert wire.inlet.ended
    assert wire.inlet.take() == []
    with pytest.raises(Cancelled):
        await wire.outlet.send(token(2))


async def test_a_lost_writer_is_an_error_after_what_had_arrived() -> None:
    wire = Wire()
    wire.outlet.offer(token(1))
    wire.deliver()
    wire.inlet.lose(PeerLost("gone"))
    assert (await anext(wire.inlet)).seq == 1
    for _ in range(2):
        with pytest.raises(PeerLost):
            await anext(wire.inlet)
    with pytest.raises(PeerLost):
        wire.inlet.take()
    assert not wire.inlet.ended


async def test_a_lost_reader_wakes_its_writer_once() -> None:
    wire, calls = Wire(), []
    wire.outlet.on_lost(lambda: calls.append("lost"))
    fill(wire)
    sending, waiting = asyncio.create_task(wire.outlet.send(token(0))), asyncio.create_task(wire.outlet.room())
    await asyncio.sleep(0)
    wire.outlet.lose(PeerLost("gone"))
    wire.outlet.lose(PeerLost("again"))
    with pytest.raises(PeerLost, match="gone"):
        await asyncio.wait_for(sending, PATIENCE_S)
    await asyncio.wait_for(waiting, PATIENCE_S)
    assert calls == ["lost"]
    wire.outlet.on_lost(lambda: calls.append("late"))
    assert calls == ["lost", "late"]
    wire.outlet.close()
    assert (wire.outlet.lost, wire.outlet.ready, wire.outlet.offer(token(1))) == (True, False, False)


async def test_a_reader_that_closes_is_learnt_of_and_keeps_nothing() -> None:
    wire = Wire()
    fill(wire)
    wire.deliver()
    wire.inlet.close()
    wire.deliver()
    assert wire.outlet.lost
    with pytest.raises(Cancelled, match="reader closed"):
        await wire.outlet.send(token(0))
    assert wire.inlet.take() == []
    assert [item async for item in wire.inlet] == []


async def test_closing_ends_a_reader_that_waits() -> None:
    wire = Wire()

    async def read() -> list[Payload]:
        return [item async for item in wire.inlet]

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    wire.inlet.close()
    assert await asyncio.wait_for(reading, PATIENCE_S) == []


async def test_send_waits_for_room_and_a_cancelled_wait_disturbs_no_other() -> None:
    wire = Wire()
    fill(wire)
    first, second = (asyncio.create_task(wire.outlet.send(token(n, 7))) for n in (1, 2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    wire.deliver()
    wire.inlet.take()
    wire.deliver()
    await asyncio.wait_for(second, PATIENCE_S)
    wire.deliver()
    assert [item.seq for item in wire.inlet.take()] == [2]


async def test_send_waits_no_longer_than_the_deadline() -> None:
    wire = Wire()
    wire.outlet = StreamOutlet(wire, 1, asyncio.get_running_loop().time() + 0.01)
    fill(wire)
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(wire.outlet.send(token(0)), PATIENCE_S)


def test_a_busy_reader_is_called_for_the_first_item_the_end_and_no_more() -> None:
    wire, calls = Wire(), []
    wire.inlet.on_readable(lambda: calls.append("call"))
    for number in range(3):
        wire.outlet.offer(token(number))
    wire.deliver()
    assert len(calls) == 1
    assert len(wire.inlet.take()) == 3
    wire.outlet.offer(token(3))
    wire.deliver()
    assert len(calls) == 2
    wire.outlet.close()
    wire.deliver()
    assert len(calls) == 3


def test_a_reader_that_asks_late_is_called_for_what_is_there() -> None:
    for before in (lambda wire: wire.outlet.offer(token(1)), lambda wire: wire.outlet.close()):
        wire, calls = Wire(), []
        before(wire)
        wire.deliver()
        wire.inlet.on_readable(lambda calls=calls: calls.append("call"))
        assert len(calls) == 1


def test_a_reader_that_fails_closes_its_stream_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()

    def fail() -> None:
        raise RuntimeError("a bug")

    wire.inlet.on_readable(fail)
    wire.outlet.offer(token(1))
    wire.deliver()
    assert wire.outlet.lost
    assert "a bug" in caplog.text


def test_a_writer_that_fails_to_hear_of_the_loss_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    wire, calls = Wire(), []

    def fail() -> None:
        raise RuntimeError("a bug")

    wire.outlet.on_lost(fail)
    wire.outlet.on_lost(lambda: calls.append("lost"))
    wire.outlet.lose(PeerLost("gone"))
    assert calls == ["lost"]
    assert "a bug" in caplog.text
