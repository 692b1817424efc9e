"""One contract, every fabric: over unix sockets, over TCP, and within one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rayflow.clock import SYSTEM_CLOCK, deadline
from rayflow.cluster.fabric.flow import WINDOW_ITEMS
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.context import Context, context
from rayflow.errors import Cancelled, Conflict, DeadlineExceeded, PeerLost, UnknownAddress, WorkflowError
from rayflow.messages import (
    Ack,
    CancelRun,
    Directory,
    Endpoint,
    FlushEvents,
    GetSession,
    Payload,
    Ping,
    Pong,
    Token,
    TokenStream,
    Welcome,
)
from rayflow.runtime.ports import Fabric, Inlet, Outlet

SECRET = b"a secret that all processes share"
PATIENCE_S = 5.0
OPENING = TokenStream("run_1", "a")
TRACED = Context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "acme", 2)


@dataclass
class Pair:
    """Two members of one fabric; `near` asks, `far` hosts the actor `echo/0`. `cut` takes `far` away, `cut_near` takes
    `near` away where it is a process of its own."""

    near: Fabric
    far: Fabric
    cut: Callable[[], Awaitable[None]]
    cut_near: Callable[[], Awaitable[None]] | None = None


async def _sockets(near: SocketFabric, far: SocketFabric) -> AsyncIterator[Pair]:
    await near.start()
    await far.start()
    near.directory.put(Endpoint("echo/0", far.endpoint, node=far.node, tcp=far.tcp))
    far.directory.put(Endpoint("client/0", near.endpoint, node=near.node, tcp=near.tcp))
    yield Pair(near, far, far.close, near.close)
    await near.close()
    await far.close()


async def _inprocess() -> AsyncIterator[Pair]:
    fabric = InProcessFabric()

    async def cut() -> None:
        fabric.unbind("echo/0")

    yield Pair(fabric, fabric, cut)


@pytest.fixture(params=["unix", "tcp", "two nodes", "inprocess"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    def member(name: str) -> SocketFabric:
        match request.param:
            case "unix":
                return SocketFabric(f"unix:{tmp_path}/{name}", SECRET)
            case "tcp":
                return SocketFabric("tcp:127.0.0.1:0", SECRET)
            case _:
                return SocketFabric(f"unix:{tmp_path}/{name}", SECRET, node=name, tcp="tcp:127.0.0.1:0")

    async for made in _inprocess() if request.param == "inprocess" else _sockets(member("near"), member("far")):
        yield made


class Reader:
    """Takes in the streams that come to an address."""

    def __init__(self) -> None:
        self._came: asyncio.Queue[tuple[Payload, Inlet]] = asyncio.Queue()

    def __call__(self, opening: Payload, inlet: Inlet) -> None:
        self._came.put_nowait((opening, inlet))

    async def next(self) -> Inlet:
        opening, inlet = await asyncio.wait_for(self._came.get(), PATIENCE_S)
        assert opening == OPENING
        return inlet


def token(number: int, text: str = " word") -> Token:
    return Token("run_1", number, "a", [text])


def fill(outlet: Outlet) -> int:
    sent = 0
    while outlet.offer(token(sent)):
        sent += 1
    return sent


async def until_lost(outlet: Outlet) -> None:
    lost = asyncio.Event()
    outlet.on_lost(lost.set)
    await asyncio.wait_for(lost.wait(), PATIENCE_S)
    assert outlet.lost and not outlet.ready and not outlet.offer(token(0))


async def test_an_ask_is_answered_by_the_handler_of_its_type(pair: Pair) -> None:
    pair.far.bind("echo/0", {Ping: lambda _: Pong("echo/0", 7)})
    assert await pair.near.ask("echo/0", Ping(), 5) == Pong("echo/0", 7)


async def test_a_coroutine_handler_is_awaited(pair: Pair) -> None:
    async def slow(_: Ping) -> Pong:
        await asyncio.sleep(0.01)
        return Pong("echo/0", 8)

    pair.far.bind("echo/0", {Ping: slow})
    assert await pair.near.ask("echo/0", Ping(), 5) == Pong("echo/0", 8)


async def test_a_reply_that_carries_bytes_and_structs_arrives_whole(pair: Pair) -> None:
    welcome = Welcome(b'{"name": "x"}' * 200, Directory(3, [Endpoint("a", "unix:/x", 2)]))
    pair.far.bind("echo/0", {Ping: lambda _: welcome})
    assert await pair.near.ask("echo/0", Ping(), 5) == welcome


async def test_many_asks_in_flight_get_their_own_replies(pair: Pair) -> None:
    async def answer(request: GetSession) -> Pong:
        await asyncio.sleep(0.001 * (int(request.session_id) % 5))
        return Pong(request.session_id, 0)

    pair.far.bind("echo/0", {GetSession: answer})
    replies = await asyncio.gather(*(pair.near.ask("echo/0", GetSession("", str(i)), 5) for i in range(200)))
    assert [reply.address for reply in replies] == [str(i) for i in range(200)]


async def test_told_messages_arrive_in_order(pair: Pair) -> None:
    got: list[str] = []
    done = asyncio.Event()

    def take(message: CancelRun) -> None:
        got.append(message.run_id)
        if len(got) == 100:
            done.set()

    pair.far.bind("echo/0", {CancelRun: take})
    for i in range(100):
        pair.near.tell("echo/0", CancelRun(str(i)))
    await asyncio.wait_for(done.wait(), 5)
    assert got == [str(i) for i in range(100)]


async def test_an_error_keeps_its_type_and_facts(pair: Pair) -> None:
    def refuse(_: Ping) -> Payload:
        raise Conflict("session s is at turn 4", session_id="s", last_seq=4)

    pair.far.bind("echo/0", {Ping: refuse})
    with pytest.raises(Conflict, match="turn 4") as caught:
        await pair.near.ask("echo/0", Ping(), 5)
    assert caught.value.details == {"session_id": "s", "last_seq": 4}


async def test_an_unexpected_exception_tells_its_type_and_nothing_else(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(_: Ping) -> Payload:
        raise RuntimeError("the password is hunter2")

    pair.far.bind("echo/0", {Ping: bug})
    with pytest.raises(WorkflowError, match="RuntimeError") as caught:
        await pair.near.ask("echo/0", Ping(), 5)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" in caplog.text


async def test_an_unknown_address_is_refused(pair: Pair) -> None:
    with pytest.raises(UnknownAddress):
        await pair.near.ask("nobody/0", Ping(), 5)
    pair.near.tell("nobody/0", Ping())


async def test_a_message_an_actor_does_not_take_is_refused(pair: Pair) -> None:
    pair.far.bind("echo/0", {Ping: lambda _: Ack()})
    with pytest.raises(UnknownAddress, match="does not take FlushEvents"):
        await pair.near.ask("echo/0", FlushEvents(), 5)


async def test_a_late_reply_is_a_deadline_and_the_handler_is_cancelled(pair: Pair) -> None:
    cancelled = asyncio.Event()

    async def forever(_: Ping) -> Pong:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    pair.far.bind("echo/0", {Ping: forever})
    with pytest.raises(DeadlineExceeded):
        await pair.near.ask("echo/0", Ping(), 0.05)
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_cancelling_the_asker_cancels_the_handler(pair: Pair) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(_: Ping) -> Pong:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    pair.far.bind("echo/0", {Ping: forever})
    asking = asyncio.create_task(pair.near.ask("echo/0", Ping(), 5))
    await asyncio.wait_for(started.wait(), 5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_handler_knows_how_long_its_caller_waits(pair: Pair) -> None:
    left: list[float] = []

    async def look(_: Ping) -> Pong:
        until = deadline.get()
        assert until is not None
        left.append(until - SYSTEM_CLOCK.now())
        return Pong("echo/0", 0)

    pair.far.bind("echo/0", {Ping: look})
    await pair.near.ask("echo/0", Ping(), 5)
    assert 0 < left[0] <= 5


async def test_no_time_left_is_a_deadline_at_once(pair: Pair) -> None:
    pair.far.bind("echo/0", {Ping: lambda _: Ack()})
    with pytest.raises(DeadlineExceeded):
        await pair.near.ask("echo/0", Ping(), 0)


async def test_when_the_peer_goes_away_pending_asks_fail_at_once(pair: Pair) -> None:
    started = asyncio.Event()

    async def forever(_: Ping) -> Pong:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    pair.far.bind("echo/0", {Ping: forever})
    asking = asyncio.create_task(pair.near.ask("echo/0", Ping(), 60))
    await asyncio.wait_for(started.wait(), 5)
    await pair.cut()
    with pytest.raises(PeerLost):
        await asyncio.wait_for(asking, 5)


async def test_the_far_side_may_ask_back(pair: Pair) -> None:
    pair.near.bind("client/0", {Ping: lambda _: Pong("client/0", 1)})

    async def relay(_: Ping) -> Pong:
        reply: Pong = await pair.far.ask("client/0", Ping(), 5)
        return reply

    pair.far.bind("echo/0", {Ping: relay})
    assert (await pair.near.ask("echo/0", Ping(), 5)).address == "client/0"


# --- streams ---


async def test_a_stream_arrives_whole_in_order_and_ends(pair: Pair) -> None:
    reader = Reader()
    pair.far.bind("echo/0", {}, {TokenStream: reader})
    outlet = pair.near.stream("echo/0", OPENING)

    async def write() -> None:
        for number in range(2000):
            await outlet.send(token(number, "é" * (number % 50)))
        outlet.close()

    writing = asyncio.create_task(write())
    inlet = await reader.next()
    assert [item async for item in inlet] == [token(number, "é" * (number % 50)) for number in range(2000)]
    await writing
    assert inlet.ended and not outlet.lost


async def test_a_busy_reader_takes_what_is_there_without_waiting(pair: Pair) -> None:
    got: list[Token] = []
    done = asyncio.Event()

    def opened(_: TokenStream, inlet: Inlet) -> None:
        def take() -> None:
            got.extend(inlet.take())
            if inlet.ended:
                done.set()

        inlet.on_readable(take)

    pair.far.bind("echo/0", {}, {TokenStream: opened})
    outlet = pair.near.stream("echo/0", OPENING)
    for number in range(1000):
        if not outlet.offer(token(number)):
            await outlet.room()
            assert outlet.offer(token(number))
    outlet.close()
    await asyncio.wait_for(done.wait(), PATIENCE_S)
    assert [item.seq for item in got] == list(range(1000))


async def test_a_reader_that_stops_stops_its_writer(pair: Pair) -> None:
    reader = Reader()
    pair.far.bind("echo/0", {Ping: lambda _: Ack()}, {TokenStream: reader})
    outlet = pair.near.stream("echo/0", OPENING)
    assert fill(outlet) == WINDOW_ITEMS
    inlet = await reader.next()
    sending = asyncio.create_task(outlet.send(token(WINDOW_ITEMS)))
    await pair.near.ask("echo/0", Ping(), PATIENCE_S)
    assert not sending.done() and not outlet.ready
    if isinstance(pair.near, SocketFabric):
        (stats,) = pair.near.links()
        assert (stats.streams, stats.queued_bytes, stats.dropped) == (1, 0, 0)
    assert (await anext(inlet)).seq == 0
    await pair.near.ask("echo/0", Ping(), PATIENCE_S)
    assert not sending.done(), "credit comes half a window at a time"
    assert len(inlet.take()) == WINDOW_ITEMS - 1
    await asyncio.wait_for(sending, PATIENCE_S)


async def test_a_slow_reader_gets_everything_and_never_more_than_a_window_at_once(pair: Pair) -> None:
    reader = Reader()
    pair.far.bind("echo/0", {}, {TokenStream: reader})
    outlet = pair.near.stream("echo/0", OPENING)
    sent = 0

    async def write() -> None:
        nonlocal sent
        for number in range(1500):
            await outlet.send(token(number))
            sent += 1
        outlet.close()

    writing = asyncio.create_task(write())
    seen = 0
    async for item in await reader.next():
        assert item.seq == seen
        seen += 1
        assert sent - seen <= WINDOW_ITEMS
        if seen % 50 == 0:
            await asyncio.sleep(0.001)
    await writing
    assert seen == 1500


async def test_two_streams_do_not_wait_for_each_other(pair: Pair) -> None:
    reader = Reader()
    pair.far.bind("echo/0", {}, {TokenStream: reader})
    stuck = pair.near.stream("echo/0", OPENING)
    fill(stuck)
    await reader.next()
    free = pair.near.stream("echo/0", OPENING)
    inlet = await reader.next()
    for number in range(3 * WINDOW_ITEMS):
        await asyncio.wait_for(free.send(token(number)), PATIENCE_S)
        assert (await asyncio.wait_for(anext(inlet), PATIENCE_S)).seq == number
    assert not stuck.ready and not stuck.lost


async def test_an_item_larger_than_the_window_passes(pair: Pair) -> None:
    reader = Reader()
    pair.far.bind("echo/0", {}, {TokenStream: reader})
    outlet = pair.near.stream("echo/0", OPENING)
    large = [token(number, "x" * 1_000_000) for number in range(3)]

    async def write() -> None:
        for item in large:
            await outlet.send(item)
        outlet.close()

    writing = asyncio.create_task(write())
    assert [item async for item in await reader.next()] == large
    await writing


async def test_a_reader_that_closes_is_learnt_of_at_once(pair: Pair) -> None:
    reader = Reader()
    pair.far.bind("echo/0", {}, {TokenStream: reader})
    outlet = pair.near.stream("echo/0", OPENING)
    inlet = await reader.next()
    inlet.close()
    await until_lost(outlet)
    with pytest.raises(Cancelled, match="reader closed"):
        await outlet.send(token(0))


async def test_a_lost_reader_ends_its_writer(pair: Pair) -> None:
    reader = Reader()
    pair.far.bind("echo/0", {}, {TokenStream: reader})
    outlet = pair.near.stream("echo/0", OPENING)
    fill(outlet)
    sending = asyncio.create_task(outlet.send(token(0)))
    await reader.next()
    await pair.cut()
    with pytest.raises(PeerLost):
        await asyncio.wait_for(sending, PATIENCE_S)
    await until_lost(outlet)


async def test_a_lost_writer_is_an_error_after_the_last_item(pair: Pair) -> None:
    if pair.cut_near is None:
        pytest.skip("writers in one process are not lost one by one")
    reader = Reader()
    pair.far.bind("echo/0", {}, {TokenStream: reader})
    outlet = pair.near.stream("echo/0", OPENING)
    for number in range(3):
        outlet.offer(token(number))
    inlet = await reader.next()
    await asyncio.wait_for(pair.cut_near(), PATIENCE_S)
    got: list[int] = []
    with pytest.raises(PeerLost):
        async for item in inlet:
            got.append(item.seq)  # noqa: PERF401
    assert got == [0, 1, 2]
    assert not inlet.ended


@pytest.mark.parametrize("to", ["nobody/0", "echo/0"])
async def test_a_stream_nobody_takes_is_lost_with_the_reason(pair: Pair, to: str) -> None:
    pair.far.bind("echo/0", {Ping: lambda _: Ack()}, {})
    outlet = pair.near.stream(to, OPENING)
    await until_lost(outlet)
    with pytest.raises(UnknownAddress):
        await outlet.send(token(0))
    outlet.close()


async def test_a_handler_may_refuse_a_stream(pair: Pair) -> None:
    def refuse(_: TokenStream, __: Inlet) -> None:
        raise Conflict("this run is streamed already", run_id="run_1")

    pair.far.bind("echo/0", {}, {TokenStream: refuse})
    outlet = pair.near.stream("echo/0", OPENING)
    await until_lost(outlet)
    with pytest.raises(Conflict, match="streamed already") as caught:
        await outlet.send(token(0))
    assert caught.value.details == {"run_id": "run_1"}


async def test_a_failing_stream_handler_tells_its_exceptions_type_and_nothing_else(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(_: TokenStream, __: Inlet) -> None:
        raise RuntimeError("the password is hunter2")

    pair.far.bind("echo/0", {}, {TokenStream: bug})
    outlet = pair.near.stream("echo/0", OPENING)
    await until_lost(outlet)
    with pytest.raises(WorkflowError, match="RuntimeError") as caught:
        await outlet.send(token(0))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" in caplog.text


# --- headers ---


async def test_a_message_for_another_incarnation_is_refused_and_not_handled(pair: Pair) -> None:
    handled: list[Payload] = []
    pair.far.bind("echo/0", {Ping: handled.append}, {TokenStream: lambda opening, _: handled.append(opening)}, epoch=3)
    here = pair.near.directory.entry("echo/0") or Endpoint("echo/0", pair.far.endpoint)  # type: ignore[attr-defined]

    def believe(epoch: int) -> None:
        entry = Endpoint("echo/0", here.endpoint, epoch, here.node, here.tcp)
        pair.near.directory.put(entry)  # type: ignore[attr-defined]

    believe(2)
    with pytest.raises(UnknownAddress, match="incarnation 3") as caught:
        await pair.near.ask("echo/0", Ping(), PATIENCE_S)
    assert caught.value.details["stale"] is True
    assert caught.value.retryable
    pair.near.tell("echo/0", Ping())
    outlet = pair.near.stream("echo/0", OPENING)
    await until_lost(outlet)
    with pytest.raises(UnknownAddress, match="incarnation 3"):
        await outlet.send(token(0))
    assert handled == []
    for epoch in (3, 0):
        believe(epoch)
        await pair.near.ask("echo/0", Ping(), PATIENCE_S)
    assert len(handled) == 2


async def test_what_a_message_belongs_to_travels_over_every_hop(pair: Pair) -> None:
    """near asks far with a context; far asks, tells and streams back without naming it."""
    seen: dict[str, Context | None] = {}
    told, streamed = asyncio.Event(), asyncio.Event()

    def answer(_: Ping) -> Ack:
        seen["asked"] = context.get()
        return Ack()

    async def hear(_: CancelRun) -> Ack:
        seen["told"] = context.get()
        told.set()
        return Ack()

    def opened(_: TokenStream, __: Inlet) -> None:
        seen["streamed"] = context.get()
        streamed.set()

    async def relay(_: Ping) -> Ack:
        seen["far"] = context.get()
        await pair.far.ask("client/0", Ping(), PATIENCE_S)
        pair.far.tell("client/0", CancelRun("x"))
        pair.far.stream("client/0", OPENING)
        return Ack()

    pair.near.bind("client/0", {Ping: answer, CancelRun: hear}, {TokenStream: opened})
    pair.far.bind("echo/0", {Ping: relay})
    before = context.set(TRACED)
    try:
        await pair.near.ask("echo/0", Ping(), PATIENCE_S)
    finally:
        context.reset(before)
    await asyncio.wait_for(told.wait(), PATIENCE_S)
    await asyncio.wait_for(streamed.wait(), PATIENCE_S)
    assert seen == dict.fromkeys(("far", "asked", "told", "streamed"), TRACED)
    await pair.near.ask("echo/0", Ping(), PATIENCE_S)
    assert (seen["far"], seen["asked"]) == (None, None), "it belongs to one message, not to the connection"


async def test_a_stream_is_opened_under_the_deadline_of_whoever_opens_it(pair: Pair) -> None:
    left: asyncio.Queue[float | None] = asyncio.Queue()

    def opened(_: TokenStream, __: Inlet) -> None:
        until = deadline.get()
        left.put_nowait(None if until is None else until - SYSTEM_CLOCK.now())

    pair.far.bind("echo/0", {}, {TokenStream: opened})
    before = deadline.set(SYSTEM_CLOCK.now() + 0.05)
    try:
        outlet = pair.near.stream("echo/0", OPENING)
        fill(outlet)
        with pytest.raises(DeadlineExceeded, match="keep up"):
            await asyncio.wait_for(outlet.send(token(0)), PATIENCE_S)
        late = pair.near.stream("echo/0", OPENING)
        with pytest.raises(DeadlineExceeded, match="no time left"):
            await late.send(token(0))
    finally:
        deadline.reset(before)
    left_s = await asyncio.wait_for(left.get(), PATIENCE_S)
    assert left_s is not None and 0 < left_s <= 0.05
    pair.near.stream("echo/0", OPENING)
    assert await asyncio.wait_for(left.get(), PATIENCE_S) is None
