"""A connection that is open, and a peer that makes no sense, does not read, or goes away."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from link_doubles import PATIENCE_S, SECRET, Peer, accept, established, listening, proved

from rayflow.cluster.fabric import outbound
from rayflow.cluster.fabric.flow import WINDOW_BYTES, WINDOW_ITEMS
from rayflow.cluster.fabric.frames import (
    Ask,
    Cancel,
    Close,
    Credit,
    End,
    Frame,
    Hello,
    Item,
    Open,
    Proof,
    Reference,
    Reply,
    Taken,
    Tell,
    encode,
)
from rayflow.cluster.fabric.sockets import SocketFabric, private_folder
from rayflow.errors import DeadlineExceeded, FrameInvalid, PeerLost
from rayflow.messages import Ack, CancelRun, Endpoint, EventBatch, Ping, Pong, Token, TokenStream
from rayflow.runtime.ports import Inlet

BIG = Token("r", 1, "a", ["x" * 65536])


async def stalled(fabric: SocketFabric, came: asyncio.Queue[Peer], path: Path) -> Peer:
    """A connection whose peer does not read: some messages fill it."""
    fabric.tell("far/0", Ping())
    peer = await accept(came, path)
    ours = await established(fabric, f"unix:{path}")
    while ours._out.writable is None:
        fabric.tell("far/0", BIG)
        await asyncio.sleep(0)
    return peer


@pytest.mark.parametrize("frame", [Hello(2, "x", "y"), Proof("x"), Item(1, Ping()), End(1)])
async def test_a_frame_that_makes_no_sense_ends_the_connection(
    fabric: SocketFabric, frame: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    async with proved(fabric) as peer:
        peer.send(frame)
        await peer.dropped()
    assert "dropping the connection to unix:/peer" in caplog.text


@pytest.mark.parametrize("frame", [Reply(5, Ack()), Cancel(5), Credit(5, 1, 1), Taken(b"x")])
async def test_a_frame_that_may_be_late_is_ignored(fabric: SocketFabric, frame: Frame) -> None:
    async with proved(fabric) as peer:
        peer.send(frame, Ask(7, "echo/0", Ping(), 5.0))
        assert (await peer.next(Reply)).id == 7


@pytest.mark.parametrize("data", [struct.pack(">I", 2000), b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x01\xc1"])
async def test_bytes_of_another_protocol_and_large_hellos_are_refused(fabric: SocketFabric, data: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(fabric.endpoint.removeprefix("unix:"))
    peer = Peer(reader, writer)
    writer.write(data)
    await peer.dropped()
    await peer.close()


async def test_an_oversized_frame_ends_the_connection(fabric: SocketFabric) -> None:
    async with proved(fabric) as peer:
        peer.writer.write(b"\xff\xff\xff\xff")
        await peer.dropped()


TRAFFIC: list[Frame] = [
    Tell("echo/0", Ping()),
    Ask(1, "echo/0", Ping(), 5.0),
    Reply(1, Ack()),
    Cancel(1),
    Open(1, "echo/0", TokenStream("r", "a")),
    Open(2, "nobody/0", TokenStream("r", "a")),
    Item(1, BIG),
    Item(3, Ping()),
    End(1),
    Credit(1, 200, 10),
    Close(1, FrameInvalid("x").to_info()),
    Taken(b"x"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(TRAFFIC), max_size=8), st.data())
async def test_whatever_a_proved_peer_says_the_fabric_goes_on(
    fabric: SocketFabric, frames: list[Frame], data: st.DataObject
) -> None:
    """Frames in any order, one of them damaged or cut short: this connection may end, and nothing else."""
    fabric.bind("echo/0", {Ping: lambda _: Pong("echo/0", 1)}, {TokenStream: lambda _, inlet: inlet.take()})
    raw = bytearray(b"".join(map(encode, frames)))
    for _ in range(data.draw(st.integers(0, 3)) if raw else 0):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    async with proved(fabric) as peer:
        peer.writer.write(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
        with suppress(ConnectionError):
            await peer.writer.drain()
    async with proved(fabric) as peer:
        peer.send(Ask(7, "echo/0", Ping(), 5.0))
        assert await peer.next(Reply) == Reply(7, Pong("echo/0", 1))


# --- the peer goes away ---


async def test_when_a_peer_closes_pending_asks_fail_and_the_next_one_dials(
    fabric: SocketFabric, tmp_path: Path
) -> None:
    path, lost = tmp_path / "far", asyncio.Queue[str]()
    fabric.on_lost(lost.put_nowait)
    async with listening(fabric, path) as came:
        for _ in range(2):
            asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
            peer = await accept(came, path)
            await peer.next(Ask)
            peer.writer.close()
            with pytest.raises(PeerLost):
                await asking
            assert await asyncio.wait_for(lost.get(), PATIENCE_S) == f"unix:{path}"


async def test_a_peer_that_only_stops_sending_counts_as_gone(fabric: SocketFabric, tmp_path: Path) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await accept(came, path)
        await peer.next(Ask)
        peer.writer.write_eof()
        with pytest.raises(PeerLost):
            await asking


# --- the peer does not read ---


async def test_told_messages_to_a_peer_that_does_not_read_are_dropped_and_counted(
    fabric: SocketFabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "MAX_TOLD_BYTES", 1 << 20)
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        await stalled(fabric, came, path)
        for _ in range(100):
            fabric.tell("far/0", BIG)
            await asyncio.sleep(0)
        (stats,) = fabric.links()
        assert stats.dropped >= 80
        assert stats.queued_bytes < 2 << 20
        assert stats.peer == f"unix:{path}"


async def test_a_peer_that_asks_and_never_reads_is_dropped_rather_than_memory_filled(
    fabric: SocketFabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "MAX_UNSENT_BYTES", 1 << 20)
    fabric.bind("echo/0", {Ping: lambda _: BIG})
    async with proved(fabric) as peer:
        peer.send(*(Ask(number, "echo/0", Ping(), 5.0) for number in range(1, 100)))
        await peer.dropped()
    assert fabric.links() == []


async def test_an_ask_keeps_its_deadline_while_the_peer_does_not_read(fabric: SocketFabric, tmp_path: Path) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        await stalled(fabric, came, path)
        queued = fabric.links()[0].queued_bytes
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(fabric.ask("far/0", BIG, 0.05), PATIENCE_S)
        assert fabric.links()[0].queued_bytes == queued, "it waited outside, and was not sent when it was too late"


async def test_what_waited_arrives_in_order_once_the_peer_reads(fabric: SocketFabric, tmp_path: Path) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        peer = await stalled(fabric, came, path)
        for number in range(20):
            fabric.tell("far/0", Token("order", number, "a", ["x" * 65536]))
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        seen: list[int] = []
        while len(seen) < 20:
            body = (await peer.next(Tell)).body
            if isinstance(body, Token) and body.run_id == "order":
                seen.append(body.seq)
        question = await peer.next(Ask)
        peer.send(Reply(question.id, Ack()))
        assert await asking == Ack()
        assert seen == list(range(20))
        assert question.timeout_s < PATIENCE_S, "the time it waited is gone"
        assert fabric.links()[0].stalled_s > 0


async def test_a_cancellation_overtakes_what_waits(fabric: SocketFabric, tmp_path: Path) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        await asyncio.sleep(0)
        peer = await stalled(fabric, came, path)
        waiting = 40
        for number in range(waiting):
            fabric.tell("far/0", Token("late", number, "a", ["x" * 65536]))
        asking.cancel()
        question = await peer.next(Ask)
        before = 0
        while not isinstance(frame := await peer.next(Frame), Cancel):  # type: ignore[type-var]
            before += isinstance(frame, Tell) and isinstance(frame.body, Token) and frame.body.run_id == "late"
        assert frame.id == question.id
        assert before == 0


async def test_an_ask_that_is_cancelled_before_it_was_sent_never_leaves(fabric: SocketFabric, tmp_path: Path) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await asyncio.wait_for(came.get(), PATIENCE_S)
        await peer.next(Hello)
        asking.cancel()
        fabric.tell("far/0", CancelRun("after"))
        await asyncio.sleep(0)
        came.put_nowait(peer)
        peer._frames.insert(0, Hello(2, fabric.endpoint, _nonce(fabric)))
        await accept(came, path)
        assert (await peer.next(Tell)).body == CancelRun("after")


def _nonce(fabric: SocketFabric) -> str:
    (link,) = fabric._all
    return link._handshake.hello.nonce


async def test_a_fabric_closes_although_a_peer_does_not_read(tmp_path: Path) -> None:
    fabric, path = SocketFabric(f"unix:{tmp_path}/g", SECRET), tmp_path / "far"
    await fabric.start()
    async with listening(fabric, path) as came:
        await stalled(fabric, came, path)
        await asyncio.wait_for(fabric.close(), PATIENCE_S)


# --- streams ---


async def test_items_beyond_the_credit_end_the_connection(
    fabric: SocketFabric, caplog: pytest.LogCaptureFixture
) -> None:
    fabric.bind("echo/0", {}, {TokenStream: lambda _, __: None})
    async with proved(fabric) as peer:
        peer.send(Open(1, "echo/0", TokenStream("r", "a")), *[Item(1, Ping())] * (WINDOW_ITEMS + 1))
        await peer.dropped()
    assert "beyond the credit" in caplog.text


async def test_bytes_beyond_the_credit_end_the_connection(
    fabric: SocketFabric, caplog: pytest.LogCaptureFixture
) -> None:
    fabric.bind("echo/0", {}, {TokenStream: lambda _, __: None})
    large = Token("r", 1, "a", ["x" * (WINDOW_BYTES + 1)])
    async with proved(fabric) as peer:
        peer.send(Open(1, "echo/0", TokenStream("r", "a")), Item(1, large), Item(1, Ping()))
        await peer.dropped()
    assert "beyond the credit" in caplog.text


async def test_credit_beyond_the_window_ends_the_connection(fabric: SocketFabric, tmp_path: Path) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        outlet = fabric.stream("far/0", TokenStream("r", "a"))
        peer = await accept(came, path)
        opened = await peer.next(Open)
        peer.send(Credit(opened.id, 1, 0))
        lost = asyncio.Event()
        outlet.on_lost(lost.set)
        await asyncio.wait_for(lost.wait(), PATIENCE_S)


async def test_a_number_is_opened_only_once(fabric: SocketFabric) -> None:
    fabric.bind("echo/0", {}, {TokenStream: lambda _, __: None})
    async with proved(fabric) as peer:
        peer.send(Open(2, "echo/0", TokenStream("r", "a")), Open(1, "echo/0", TokenStream("r", "a")))
        await peer.dropped()


async def test_items_that_were_under_way_when_the_reader_closed_are_ignored(fabric: SocketFabric) -> None:
    fabric.bind("echo/0", {Ping: lambda _: Ack()}, {TokenStream: lambda _, inlet: inlet.close()})
    async with proved(fabric) as peer:
        peer.send(Open(1, "echo/0", TokenStream("r", "a")), Item(1, Ping()), End(1), Ask(1, "echo/0", Ping(), 5.0))
        assert (await peer.next(Close)).error.slug == "cancelled"
        await peer.next(Reply)


async def test_credit_comes_half_a_window_at_a_time(fabric: SocketFabric) -> None:
    inlets: list[Inlet] = []
    fabric.bind("echo/0", {Ping: lambda _: Ack()}, {TokenStream: lambda _, inlet: inlets.append(inlet)})
    async with proved(fabric) as peer:
        peer.send(Open(1, "echo/0", TokenStream("r", "a")), *[Item(1, Ping())] * (WINDOW_ITEMS // 2 - 1))
        peer.send(Ask(1, "echo/0", Ping(), 5.0))
        await peer.next(Reply)
        assert len(inlets[0].take()) == WINDOW_ITEMS // 2 - 1
        peer.send(Item(1, Ping()), Ask(2, "echo/0", Ping(), 5.0))
        await peer.next(Reply)
        await anext(inlets[0])
        credit = await peer.next(Credit)
        assert (credit.id, credit.items) == (1, WINDOW_ITEMS // 2)
        assert credit.size == len(encode(Item(1, Ping()))) * (WINDOW_ITEMS // 2)


# --- replies ---


@pytest.mark.parametrize("slow", [False, True])
async def test_a_reply_that_cannot_be_sent_is_an_error_for_who_asked_and_for_nobody_else(
    tmp_path: Path, slow: bool
) -> None:
    near, far = SocketFabric(f"unix:{tmp_path}/n", SECRET), SocketFabric(f"unix:{tmp_path}/m", SECRET)
    await near.start()
    await far.start()
    near.directory.put(Endpoint("far/0", far.endpoint))
    bad = Pong("far/0", 1 << 70)

    async def later(_: Ping) -> Pong:
        await asyncio.sleep(0)
        return bad

    held = asyncio.Event()

    async def hold(_: EventBatch) -> Ack:
        await held.wait()
        return Ack()

    far.bind("far/0", {Ping: later if slow else lambda _: bad, EventBatch: hold, CancelRun: lambda _: None})
    other = asyncio.create_task(near.ask("far/0", EventBatch("here", 0, 0, b""), PATIENCE_S))
    await near.ask("far/0", CancelRun("x"), PATIENCE_S)
    with pytest.raises(FrameInvalid, match="Pong cannot be sent"):
        await near.ask("far/0", Ping(), 0.5)
    held.set()
    assert await other == Ack()
    await near.close()
    await far.close()


async def test_a_handler_that_cancels_itself_still_answers(tmp_path: Path) -> None:
    """A run that somebody else stopped: who asked for it must hear something before the deadline."""
    near, far = SocketFabric(f"unix:{tmp_path}/n", SECRET), SocketFabric(f"unix:{tmp_path}/m", SECRET)
    await near.start()
    await far.start()
    near.directory.put(Endpoint("far/0", far.endpoint))

    async def give_up(_: Ping) -> Pong:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        raise AssertionError

    far.bind("far/0", {Ping: give_up})
    with pytest.raises(Exception, match=r"cancel") as caught:
        await near.ask("far/0", Ping(), 1.0)
    assert not isinstance(caught.value, DeadlineExceeded)
    await near.close()
    await far.close()


async def test_a_reference_without_a_common_store_is_refused_and_the_connection_goes_on(fabric: SocketFabric) -> None:
    async with proved(fabric) as peer:
        peer.send(Ask(1, "echo/0", Reference(b"anything"), 5.0), Ask(2, "echo/0", Ping(), 5.0))
        replies = {frame.id: frame.body for frame in [await peer.next(Reply), await peer.next(Reply)]}
    assert replies[2] == Pong("echo/0", 1)
    assert replies[1].error.slug == "frame-invalid"  # type: ignore[union-attr]


async def test_a_connection_counts_what_it_carries(fabric: SocketFabric) -> None:
    async with proved(fabric) as peer:
        peer.send(Ask(7, "echo/0", Ping(), 5.0))
        await peer.next(Reply)
        (stats,) = fabric.links()
    assert stats.peer == "unix:/peer"
    assert (stats.frames_in, stats.frames_out) == (3, 1)
    assert stats.bytes_in > len(encode(Ask(7, "echo/0", Ping(), 5.0)))
    assert stats.bytes_out == len(encode(Reply(7, Pong("echo/0", 1))))
    assert (stats.asks, stats.serving, stats.streams, stats.queued_bytes, stats.dropped) == (0, 0, 0, 0, 0)


def test_a_private_folder_is_nobody_elses(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_system_watches_tcp_peers_that_may_vanish_without_a_word(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def options() -> list[tuple[int, int]]:
        near, far = SocketFabric("tcp:127.0.0.1:0", SECRET), SocketFabric("tcp:127.0.0.1:0", SECRET)
        await near.start()
        await far.start()
        near.directory.put(Endpoint("far/0", far.endpoint))
        far.bind("far/0", {Ping: lambda _: Ack()})
        await near.ask("far/0", Ping(), PATIENCE_S)
        found = []
        for link in (*near._all, *far._all):
            assert link._transport is not None
            with socket.fromfd(
                link._transport.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM
            ) as s:
                keepalive = s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                found.append((keepalive, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)))
        await near.close()
        await far.close()
        return found

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(options()) == [(1, 5000), (1, 5000)]
