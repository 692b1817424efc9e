"""The queue of a connection: what leaves when, and what gives way while the peer does not keep up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.cluster.fabric import outbound
from rayflow.cluster.fabric.outbound import WRITE_BYTES, Outbound


class Transport(asyncio.WriteTransport):
    """Takes what it is given; says that it is full after `room` bytes."""

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.room = room
        self.queue: Outbound | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
        self.room -= len(data)
        if self.room <= 0 and self.queue is not None:
            self.queue.pause()

    def get_write_buffer_size(self) -> int:
        return 0

    @property
    def data(self) -> bytes:
        return b"".join(self.written)


def opened(room: int = 1 << 30) -> tuple[Outbound, Transport]:
    queue, transport = Outbound(lambda: None), Transport(room)
    transport.queue = queue
    queue.open(transport)
    return queue, transport


def resume(queue: Outbound, transport: Transport, room: int = 1 << 30) -> None:
    transport.room = room
    queue.resume()


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_what_is_sent_in_one_turn_leaves_in_one_write() -> None:
    queue, transport = opened()
    for letter in (b"a", b"b", b"c"):
        queue.send(letter)
    assert transport.written == []
    await turn()
    assert transport.written == [b"abc"]
    assert (queue.frames, queue.bytes) == (3, 3)


async def test_what_was_sent_before_the_connection_was_open_leaves_first() -> None:
    queue, transport = Outbound(lambda: None), Transport()
    queue.send(b"a")
    queue.tell(b"b")
    assert queue.writable is None, "nobody waits for a connection that may be fast"
    queue.open(transport)
    queue.send(b"c")
    await turn()
    assert transport.data == b"abc"


async def test_a_full_transport_gets_nothing_more_until_it_has_room() -> None:
    queue, transport = opened(room=1)
    queue.send(b"a")
    await turn()
    queue.send(b"b")
    await turn()
    assert transport.data == b"a"
    waiting = queue.writable
    assert waiting is not None and not waiting.done()
    resume(queue, transport)
    assert waiting.done() and queue.writable is None
    assert transport.data == b"ab"


async def test_it_is_filled_piece_by_piece_so_that_something_urgent_can_still_go_first() -> None:
    queue, transport = opened(room=1)
    for _ in range(4):
        queue.send(b"x" * WRITE_BYTES)
    await turn()
    assert len(transport.data) == WRITE_BYTES
    queue.overtake(b"!")
    resume(queue, transport, room=1)
    assert transport.written[1] == b"!" + b"x" * WRITE_BYTES
    assert queue.writable is not None, "it is full again"
    resume(queue, transport)
    assert len(transport.data) == 4 * WRITE_BYTES + 1


async def test_nothing_urgent_overtakes_what_leaves_in_the_same_turn() -> None:
    """A cancellation must not arrive before the question it cancels."""
    queue, transport = opened()
    queue.send(b"ask")
    queue.overtake(b"cancel")
    await turn()
    assert transport.data == b"askcancel"


async def test_a_frame_that_waits_can_be_taken_back_and_one_that_left_cannot() -> None:
    queue, transport = opened(room=1)
    gone, kept, waiting = b"gone", b"same", b"sa" + b"me"[:2]
    queue.send(gone)
    await turn()
    queue.send(kept)
    queue.send(waiting)
    assert not queue.withdraw(gone)
    assert queue.withdraw(waiting)
    assert queue.queued_bytes == len(kept)
    resume(queue, transport)
    assert transport.data == b"gonesame"


async def test_told_messages_are_dropped_when_too_many_wait_and_taken_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbound, "MAX_TOLD_BYTES", 4)
    queue, transport = opened(room=1)
    queue.send(b"a")
    await turn()
    for frame in (b"bb", b"cc", b"dd"):
        queue.tell(frame)
    queue.send(b"reply")
    assert queue.dropped == 1
    resume(queue, transport, room=1)
    queue.tell(b"ee")
    assert queue.dropped == 1
    resume(queue, transport)
    assert transport.data == b"abbccreplyee"


async def test_too_much_that_may_not_be_dropped_is_an_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "MAX_UNSENT_BYTES", 10)
    overflown: list[bool] = []
    queue = Outbound(lambda: overflown.append(True))
    queue.send(b"x" * 10)
    assert not overflown
    queue.send(b"x")
    assert overflown


async def test_a_lost_connection_lets_everybody_go_and_keeps_nothing() -> None:
    queue, _ = opened(room=1)
    queue.send(b"a")
    await turn()
    queue.send(b"b")
    waiting = queue.writable
    queue.drop()
    queue.send(b"c")
    queue.overtake(b"d")
    await turn()
    assert waiting is not None and waiting.done()
    assert queue.queued_bytes == 0


async def test_closing_hands_everything_over() -> None:
    queue, transport = opened(room=1)
    queue.send(b"a")
    await turn()
    queue.send(b"b")
    queue.finish()
    assert transport.data == b"ab"
    queue, transport = opened()
    queue.send(b"a")
    queue.finish()
    assert transport.data == b"a"


STEPS = st.lists(st.sampled_from(["send", "tell", "overtake", "turn", "pause", "resume"]), max_size=40)


@given(STEPS)
async def test_every_frame_leaves_once_and_ordinary_ones_in_order(steps: list[str]) -> None:
    queue, transport = opened()
    ordinary: list[bytes] = []
    urgent: list[bytes] = []
    for number, step in enumerate(steps):
        frame = b"%03d " % number
        match step:
            case "send" | "tell":
                getattr(queue, step)(frame)
                ordinary.append(frame)
            case "overtake":
                queue.overtake(frame)
                urgent.append(frame)
            case "turn":
                await turn()
            case "pause":
                queue.pause()
            case "resume":
                queue.resume()
    queue.resume()
    await turn()
    left = [word + b" " for word in transport.data.split()]
    assert sorted(left) == sorted(ordinary + urgent)
    assert [frame for frame in left if frame in ordinary] == ordinary
    assert queue.frames == len(left)
    assert queue.bytes == len(transport.data)
    assert queue.queued_bytes == 0
