"""Runs that wait for their session when their router ends: the next one goes on with them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from actor_doubles import PATIENCE_S, HeldModel, Team, config, request, settle, team

from rayflow.actors import persistence, router
from rayflow.actors.outbox import Outbox
from rayflow.actors.queue import KIND, MOST_ATTEMPTS, Held, Queue
from rayflow.actors.sessions import Sessions
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import Cancelled, StorageError
from rayflow.messages import (
    CancelRun,
    Erased,
    EraseUser,
    GetRuns,
    ReadRecords,
    Records,
    RunIds,
    RunRequest,
    RunResult,
    Token,
    WriteRecords,
    Written,
)
from rayflow.messages.records import MAX_VALUE_BYTES, QUEUE
from rayflow.policies.placement import owner
from rayflow.stores.memory import MemoryStore


class Disk(MemoryStore):
    """Outlives who opened it."""

    def __init__(self) -> None:
        super().__init__(1000)

    async def close(self) -> None:
        """It stays."""


async def kept(t: Team) -> list[str]:
    await t.router._queue.settled()
    found: Records = await t.fabric.ask("session/0", ReadRecords("", QUEUE, KIND), PATIENCE_S)
    held = [msgspec.msgpack.decode(record.value, type=Held) for record in found.records]
    return [each.request.run_id for each in sorted(held, key=lambda each: each.order)]


async def left_waiting(disk: Disk, *runs: dict[str, Any]) -> None:
    """A router ends while the first of these runs is answered, and the others wait for it."""
    async with team(store=disk, model=lambda _: HeldModel(held=True)) as t:
        asked = []
        for number, run in enumerate(runs):
            asked.append(t.start(**run))
            await (t.models["a"].busy() if number == 0 else settle())
    for run in asked:
        run.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


def key(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "run_id": f"run_{text}", "repeatable": True, **more}


async def done(t: Team) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while t.router._runs or t.router._queue._forgetting:
            await asyncio.sleep(0.001)


async def test_the_next_router_answers_those_that_waited_in_their_order() -> None:
    disk = Disk()
    await left_waiting(disk, key("z"), key("c"), key("a"), key("b", outlives=True, repeatable=False))
    async with team(store=disk) as t:
        await done(t)
        answered = [(role, text) for text in "cab" for role, text in (("user", text), ("assistant", "done"))]
        assert await t.turns() == [("user", "z"), *answered], "the one at work was its client's to ask again"
        assert await kept(t) == []
    async with team(store=disk) as t:
        await done(t)
        assert not t.models["a"].requests, "once is enough"


async def test_what_comes_in_then_waits_behind_them() -> None:
    disk = Disk()
    await left_waiting(disk, key("x"), key("y"))
    async with team(store=disk, model=lambda _: HeldModel(held=True)) as t:
        new = t.start("new")
        await t.models["a"].busy()
        t.models["a"].released.set()
        await asyncio.wait_for(new, PATIENCE_S)
        assert [text for role, text in await t.turns() if role == "user"] == ["x", "y", "new"]


async def test_who_only_waits_on_a_connection_is_not_kept() -> None:
    disk = Disk()
    await left_waiting(disk, key("x"), {"text": "y"})
    async with team(store=disk) as t:
        await done(t)
        assert [text for _, text in await t.turns()] == ["x"]


async def test_one_that_a_crash_met_at_work_is_answered_and_asked_once() -> None:
    disk = Disk()
    async with team(store=disk, model=lambda _: HeldModel(held=True)) as t:
        model = t.models["a"]
        first, second = t.start("x"), None
        await model.busy()
        second = t.start(**key("y"))
        await settle()
        model.released.set()
        await first
        model.released.clear()
        await model.busy()
        assert await kept(t) == ["run_y"]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    async with team(store=disk) as t:
        await done(t)
        assert await t.turns() == [("user", "x"), ("assistant", "done"), ("user", "y"), ("assistant", "done")]
        again = await t.run(**key("y"))
        assert (again.content, again.turn) == ("done", 4)
        assert len(t.models["a"].requests) == 1


async def test_a_client_that_comes_back_before_its_turn_is_streamed_to() -> None:
    disk = Disk()
    await left_waiting(disk, key("x"), key("y"), key("z", stream=True, client="client/0"))
    async with team(store=disk, model=lambda _: HeldModel("one two", held=True)) as t:
        await t.models["a"].busy()
        again = t.start(**key("z", stream=True, client="client/0", attempt=1))
        await settle()
        t.models["a"].released.set()
        result: RunResult = await asyncio.wait_for(again, PATIENCE_S)
        await settle()
        assert result.content == "".join(token.text for token in t.heard if isinstance(token, Token)) == "onetwo"
        assert [text for role, text in await t.turns() if role == "user"] == ["x", "y", "z"]


async def test_one_that_is_cancelled_is_kept_no_more() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        first = t.start("x")
        await t.models["a"].busy()
        waiting, leaving = t.start(**key("y")), t.start(**key("z"))
        await settle()
        assert await kept(t) == ["run_y", "run_z"]
        leaving.cancel()
        await t.fabric.ask("router/0", CancelRun("run_y", "enough", "t"), PATIENCE_S)
        with pytest.raises(Cancelled):
            await waiting
        await settle()
        assert await kept(t) == []
        t.models["a"].released.set()
        assert (await asyncio.wait_for(first, PATIENCE_S)).content == "done"


async def test_where_it_cannot_be_kept_it_does_not_wait() -> None:
    class Full(Disk):
        async def write_records(self, request: WriteRecords, now_us: int) -> Written:
            raise StorageError("the disk is full")

    async with team(store=Full(), model=lambda _: HeldModel(held=True)) as t:
        first = t.start("x")
        await t.models["a"].busy()
        with pytest.raises(StorageError, match="full"):
            await t.run(**key("y"))
        t.models["a"].released.set()
        assert (await asyncio.wait_for(first, PATIENCE_S)).content == "done"
        assert (await t.run("z")).content == "done", "the session is free"


async def test_one_too_large_for_a_record_waits_all_the_same() -> None:
    long = [msgspec.structs.replace(request().messages[0], content="x" * MAX_VALUE_BYTES)]
    async with team(config(processing={"input_validation": False}), model=lambda _: HeldModel(held=True)) as t:
        first = t.start("x")
        await t.models["a"].busy()
        asked = RunRequest("run_l", "sess_1", long, tenant="t", repeatable=True)
        waiting = asyncio.create_task(t.fabric.ask("router/0", asked, PATIENCE_S))
        await settle()
        assert await kept(t) == []
        t.models["a"].released.set()
        assert (await first).content == (await waiting).content == "done"


async def test_to_erase_a_user_erases_what_waits() -> None:
    disk = Disk()
    await left_waiting(disk, key("x"), key("y", user_id="ada"), key("z", user_id="bob"))
    sessions = Sessions("session/0", disk, Outbox(InProcessFabric()), SYSTEM_CLOCK)
    assert await sessions.handlers[EraseUser](EraseUser("t", "ada")) == Erased(0, 1)
    assert await sessions.handlers[EraseUser](EraseUser("u", "bob")) == Erased(0, 0)
    async with team(store=disk) as t:
        await done(t)
        assert [text for _, text in await t.turns()] == ["x", "z", "done"]


async def test_a_predecessor_that_lives_keeps_what_it_has() -> None:
    disk = Disk()
    await left_waiting(disk, key("x"), key("y"), key("z"))
    fabric, asked = InProcessFabric(), list[object]()
    fabric.bind("router/0", {GetRuns: lambda message: asked.append(message) or RunIds(["run_y"])})
    _bind(fabric, disk)
    taken = await Queue("router/0", ["router/0"], ["session/0"], fabric, SYSTEM_CLOCK).take_over()
    assert ([each.run_id for each in taken], len(asked)) == (["run_z"], 1)


async def test_those_of_a_router_that_is_no_more_are_inherited_by_the_others() -> None:
    disk = Disk()
    fabric = InProcessFabric()
    _bind(fabric, disk)
    waiting = [request(session=f"s{n}", run_id=f"run_{n}", repeatable=True) for n in range(20)]
    for at, each in enumerate(waiting):
        await Queue(f"router/{at % 4}", [], ["session/0"], fabric, SYSTEM_CLOCK).keep(each)
    left = [f"router/{n}" for n in range(2)]
    taken = [await Queue(router, left, ["session/0"], fabric, SYSTEM_CLOCK).take_over() for router in left]
    assert sorted(each.run_id for each in (*taken[0], *taken[1])) == sorted(each.run_id for each in waiting)
    assert min(map(len, taken)) > 5


async def test_a_router_that_stands_in_for_another_keeps_what_it_was_asked() -> None:
    routers = ["router/0", "router/1"]
    queues = {at: Queue(at, routers, ["session/0"], InProcessFabric(), SYSTEM_CLOCK) for at in routers}
    mine = owner("sess_1", routers)
    [other] = set(routers) - {mine}
    asked = request(repeatable=True)
    assert not queues[mine].claims(asked)
    assert queues[mine].claims(msgspec.structs.replace(asked, attempt=1))
    assert queues[other].claims(asked)
    assert not queues[other].claims(request()), "its client only waits on a connection"
    alone = Queue("router/0", ["router/0"], ["session/0"], InProcessFabric(), SYSTEM_CLOCK)
    assert not alone.claims(msgspec.structs.replace(asked, attempt=1))


async def test_one_that_kills_router_after_router_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    await left_waiting(disk, key("x"), key("y"))
    fabric = InProcessFabric()
    _bind(fabric, disk)
    attempts = []
    for _ in range(MOST_ATTEMPTS + 1):
        queue = Queue("router/0", ["router/0"], ["session/0"], fabric, SYSTEM_CLOCK)
        attempts += [each.attempt for each in await queue.take_over()]
        await queue.settled()
    assert attempts == list(range(1, MOST_ATTEMPTS + 1))
    assert "run run_y is given up" in caplog.text
    assert not (await fabric.ask("session/0", ReadRecords("", QUEUE, KIND), PATIENCE_S)).records


async def test_a_store_that_is_away_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(persistence, "PATIENCE_S", 0.0)
    monkeypatch.setattr(router, "AGAIN_S", 0.001)
    disk = Disk()
    await left_waiting(disk, key("x"), key("y"))
    caplog.set_level(logging.WARNING)
    failures = 2

    class Away(Disk):
        async def read_records(self, request: ReadRecords, now_us: int) -> Records:
            nonlocal failures
            failures -= request.owner == QUEUE
            if failures >= 0 and request.owner == QUEUE:
                raise StorageError("not yet")
            return await disk.read_records(request, now_us)

    away = Away()
    away._sessions, away._records = disk._sessions, disk._records
    async with team(store=away) as t:
        assert t.router._inheriting is not None
        await asyncio.wait_for(t.router._inheriting, PATIENCE_S)
        await done(t)
        assert [text for _, text in await t.turns()] == ["x", "y", "done"]
    assert caplog.text.count("does not know yet") == 1


def _bind(fabric: InProcessFabric, disk: Disk) -> None:
    fabric.bind(
        "session/0",
        {
            ReadRecords: lambda read: disk.read_records(read, SYSTEM_CLOCK.wall_us()),
            WriteRecords: lambda write: disk.write_records(write, SYSTEM_CLOCK.wall_us()),
        },
    )
