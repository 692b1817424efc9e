"""One contract, every fabric: over unix sockets, over TCP, and within one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rayflow.clock import SYSTEM_CLOCK, deadline
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.errors import Conflict, DeadlineExceeded, PeerLost, UnknownAddress, WorkflowError
from rayflow.messages import Ack, CancelRun, Directory, Endpoint, FlushEvents, GetSession, Payload, Ping, Pong, Welcome
from rayflow.runtime.ports import Fabric

SECRET = b"a secret that all processes share"


@dataclass
class Pair:
    """Two members of one fabric; `near` asks, `far` hosts the actor `echo/0`. `cut` takes `far` away."""

    near: Fabric
    far: Fabric
    cut: Callable[[], Awaitable[None]]


async def _sockets(first: str, second: str) -> AsyncIterator[Pair]:
    near, far = SocketFabric(first, SECRET), SocketFabric(second, SECRET)
    await near.start()
    await far.start()
    near.directory.put(Endpoint("echo/0", far.endpoint))
    far.directory.put(Endpoint("client/0", near.endpoint))
    yield Pair(near, far, far.close)
    await near.close()
    await far.close()


async def _inprocess() -> AsyncIterator[Pair]:
    fabric = InProcessFabric()

    async def cut() -> None:
        fabric.unbind("echo/0")

    yield Pair(fabric, fabric, cut)


@pytest.fixture(params=["unix", "tcp", "inprocess"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    make = {
        "unix": lambda: _sockets(f"unix:{tmp_path}/a", f"unix:{tmp_path}/b"),
        "tcp": lambda: _sockets("tcp:127.0.0.1:0", "tcp:127.0.0.1:0"),
        "inprocess": _inprocess,
    }[request.param]
    async for made in make():
        yield made


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
