"""Working states on real stores: versions, checkpoints, forks, and writers at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.actors.outbox import Outbox
from rayflow.actors.sessions import Sessions
from rayflow.app.client import SystemClient
from rayflow.app.working_state import WorkingState
from rayflow.chat import Message
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.load import from_dict
from rayflow.errors import Conflict, NotFound, PeerLost, ValidationError
from rayflow.messages import (
    AppendTurns,
    CloseSession,
    CreateSession,
    DeleteSession,
    ForkSession,
    Payload,
    WriteRecords,
)
from rayflow.policies.placement import owner
from rayflow.policies.state import StateUpdate
from rayflow.stores.memory import MemoryStore

FIELDS: list[dict[str, Any]] = [
    {"name": "stage", "default": "new"},
    {"name": "count", "type": "integer", "reducer": "add", "default": 0},
    {"name": "log", "type": "list", "reducer": "append"},
]


class World:
    """Two shards and a client of theirs."""

    def __init__(self, **state: Any) -> None:
        config = {
            "name": "w",
            "agents": [{"name": "a"}],
            "session": {"shards": 2},
            "state": {"fields": FIELDS, **state},
        }
        self.fabric = InProcessFabric()
        for address in ("session/0", "session/1"):
            actor = Sessions(address, MemoryStore(100), Outbox(self.fabric, enabled=False), ManualClock())
            self.fabric.bind(address, actor.handlers)
        self.client = SystemClient(self.fabric, "client/test", from_dict(config))

    async def session(self, session_id: str = "s", tenant: str = "") -> WorkingState:
        await self.client.session(CreateSession(tenant, session_id))
        return WorkingState(self.client, tenant, session_id, "me")

    async def say(self, *texts: str) -> None:
        request = AppendTurns("", "s", [Message("user", text) for text in texts])
        await self.fabric.ask(owner("s", self.client.shards.addresses), request, 1.0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    yield World()


def adds(count: int) -> StateUpdate:
    return StateUpdate({"count": count})


def sets(stage: str) -> StateUpdate:
    return StateUpdate({"stage": stage})


async def test_a_state_has_its_defaults_until_it_is_changed(world: World) -> None:
    state = await world.session()
    before = await state.read()
    assert (before.version, before.values) == (0, {"stage": "new", "count": 0, "log": None})
    after = await state.update(StateUpdate({"stage": "paid", "log": ["x"]}))
    assert (after.version, after.values) == (1, {"stage": "paid", "count": 0, "log": ["x"]})
    assert await state.read() == after


async def test_an_update_that_changes_nothing_makes_no_version(world: World) -> None:
    state = await world.session()
    assert (await state.update(adds(0))).version == 1  # the default is written down
    assert (await state.update(adds(0))).version == 1
    assert (await state.update(StateUpdate())).version == 1


async def test_a_refused_update_changes_nothing(world: World) -> None:
    state = await world.session()
    with pytest.raises(ValidationError):
        await state.update(StateUpdate({"stage": "paid", "count": "x"}))
    assert (await state.read()).version == 0


async def test_the_history_says_who_changed_what_and_leads_back(world: World) -> None:
    state = await world.session()
    await state.update(sets("paid"))
    await world.say("hi", "there")
    await state.update(StateUpdate({"log": ["a", "b"]}))
    await state.update(StateUpdate(remove={"log": ["a"]}))
    newest, *_ = history = await state.history()
    assert [delta.version for delta in history] == [3, 2, 1]
    assert (newest.by, newest.turn, newest.changes[0].before, newest.changes[0].after) == ("me", 2, ["a"], [])
    assert [delta.version for delta in await state.history(limit=1, before=3)] == [2]
    assert (await state.read(2)).values["log"] == ["a", "b"]
    assert (await state.read(0)).values == {"stage": "new", "count": 0, "log": None}
    assert [(change.field, change.after) for change in await state.diff(1)] == [("log", [["b"]])]
    assert [(change.field, change.after) for change in await state.diff(2, 0)] == [("log", []), ("stage", [])]


async def test_the_history_is_bounded_also_when_it_is_made_shorter() -> None:
    world = World(history=3)
    state = await world.session()
    for n in range(6):
        await state.update(sets(f"{n}"))
    assert [delta.version for delta in await state.history(100)] == [6, 5, 4]
    assert (await state.read(3)).values["stage"] == "2"
    with pytest.raises(NotFound, match="its history has 3 to 6"):
        await state.read(2)
    world.client.config = from_dict(
        {"name": "w", "agents": [{"name": "a"}], "session": {"shards": 2}, "state": {"fields": FIELDS, "history": 1}}
    )
    assert (await state.update(sets("last"))).oldest == 6
    assert [delta.version for delta in await state.history(100)] == [7]


async def test_a_checkpoint_outlives_the_history_and_restoring_it_makes_a_version() -> None:
    world = World(history=2)
    state = await world.session()
    await state.update(StateUpdate({"stage": "paid", "log": [1, {"a": None}]}))
    kept = (await state.read()).values
    assert (await state.checkpoint("before-refund")).version == 1
    for n in range(5):
        await state.update(sets(f"{n}"))
    restored = await state.restore("before-refund")
    assert (restored.version, restored.values) == (7, kept)
    assert (await state.history(1))[0].note == "restored checkpoint before-refund"
    assert (await state.restore(version=6)).values["stage"] == "4"


async def test_checkpoints_have_their_own_names_and_a_limit() -> None:
    world = World(checkpoints=2)
    state = await world.session()
    await state.checkpoint("empty")
    await state.update(sets("paid"))
    with pytest.raises(Conflict, match="a checkpoint empty already"):
        await state.checkpoint("empty")
    await state.checkpoint("old", version=0)
    assert {name: mark.version for name, mark in (await state.checkpoints()).items()} == {"empty": 0, "old": 0}
    with pytest.raises(Conflict, match=r"state.checkpoints allows 2"):
        await state.checkpoint("third")
    await state.delete_checkpoint("old")
    await state.checkpoint("third")
    for name in ("old", "never"):
        with pytest.raises(NotFound, match="no checkpoint"):
            await state.restore(name)
        with pytest.raises(NotFound, match="no checkpoint"):
            await state.delete_checkpoint(name)
    with pytest.raises(ValidationError, match="name"):
        await state.checkpoint("a/b")
    assert (await state.restore("empty")).values == {"stage": "new", "count": 0, "log": None}


async def test_who_read_another_version_may_add_but_not_overwrite(world: World) -> None:
    state = await world.session()
    await state.update(sets("paid"), expected_version=0)
    assert (await state.update(StateUpdate({"count": 2, "log": [1]}), expected_version=0)).version == 2
    for attempt in (state.update(sets("sent"), 1), state.restore(version=1, expected_version=1)):
        with pytest.raises(Conflict) as refusal:
            await attempt
        assert refusal.value.details["version"] == 2
    assert (await state.update(sets("sent"), expected_version=2)).version == 3


async def test_writers_at_the_same_moment_in_several_processes_lose_nothing(world: World) -> None:
    await world.session()
    others = [SystemClient(world.fabric, f"client/{n}", world.client.config) for n in range(3)]
    states = [WorkingState(client, "", "s") for client in (world.client, *others)]
    await asyncio.gather(*(states[n % 4].update(StateUpdate({"count": 1, "log": [n]})) for n in range(200)))
    now = await states[0].read()
    assert (now.version, now.values["count"], sorted(now.values["log"])) == (200, 200, [*range(200)])
    assert [delta.version for delta in await states[1].history(100)] == [*range(200, 100, -1)]


async def test_of_two_who_overwrite_what_they_have_read_one_is_refused(world: World) -> None:
    state = await world.session()
    both = await asyncio.gather(state.update(sets("a"), 0), state.update(sets("b"), 0), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in both) == ["Conflict", "StateView"]


@pytest.mark.parametrize("made", [True, False])
async def test_a_write_whose_reply_is_lost_is_made_once(
    world: World, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await world.session()
    ask, lost = world.client.shards._ask, 0

    async def losing(shard: str, message: Payload, repeatable: bool) -> Any:
        nonlocal lost
        if isinstance(message, WriteRecords) and not lost:
            lost += 1
            if made:
                await ask(shard, message, repeatable)
            raise PeerLost("the store died")
        return await ask(shard, message, repeatable)

    monkeypatch.setattr(world.client.shards, "_ask", losing)
    assert (await state.update(adds(1))).values["count"] == 1
    assert (lost, (await state.read()).version) == (1, 1)


async def test_a_fork_begins_with_the_state_of_its_turn_and_goes_its_own_way(world: World) -> None:
    parent = await world.session()
    await world.say("one")
    await parent.update(sets("after one"))
    await world.say("two")
    await parent.update(sets("after two"))
    for at, stage in ((1, "after one"), (2, "after two"), (0, "new")):
        fork = ForkSession("", "s", world.client.shards.sibling("s"), at)
        child = await world.client.session(fork)
        state = WorkingState(world.client, "", child.session_id)
        await state.inherit("s", at)
        assert (await state.read()).values["stage"] == stage
    await parent.update(sets("later"))
    assert (await state.read()).values["stage"] == "new"


async def test_a_fork_from_before_the_history_begins_with_the_present_state() -> None:
    world = World(history=1)
    parent = await world.session()
    await world.say("one")
    for stage in ("a", "b", "c"):
        await world.say(stage)
        await parent.update(sets(stage))
    child = await world.client.session(ForkSession("", "s", world.client.shards.sibling("s"), 1))
    state = WorkingState(world.client, "", child.session_id)
    await state.inherit("s", 1)
    assert (await state.read()).values["stage"] == "c"
    assert (await state.history())[0].note == "forked from s at version 3"


async def test_a_closed_session_keeps_its_state_and_takes_no_changes(world: World) -> None:
    state = await world.session()
    await state.update(sets("paid"))
    await world.client.session(CloseSession("", "s"))
    for attempt in (state.update(sets("x")), state.restore(version=0), state.checkpoint("x")):
        with pytest.raises(Conflict, match="is closed"):
            await attempt
    assert (await state.read()).values["stage"] == "paid"


async def test_the_state_goes_with_its_session(world: World) -> None:
    state = await world.session()
    await state.update(sets("paid"))
    await state.checkpoint("x")
    await world.client.session(DeleteSession("", "s"))
    for attempt in (state.read(), state.update(sets("x")), state.history(), state.checkpoints(), state.restore("x")):
        with pytest.raises(NotFound):
            await attempt
    again = await world.session()
    assert ((await again.read()).version, await again.checkpoints(), await again.history()) == (0, {}, [])


async def test_a_session_that_is_deleted_while_its_state_is_written_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await world.session()
    ask = world.client.shards._ask

    async def deleting(shard: str, message: Payload, repeatable: bool) -> Any:
        if isinstance(message, WriteRecords):
            await ask(shard, DeleteSession("", "s"), False)
        return await ask(shard, message, repeatable)

    monkeypatch.setattr(world.client.shards, "_ask", deleting)
    with pytest.raises(NotFound):
        await state.update(sets("paid"))
    assert [record async for record in world.client.shards.every_record()] == []


async def test_the_same_session_of_another_tenant_is_another_one(world: World) -> None:
    ours, theirs = await world.session(tenant="acme"), await world.session(tenant="globex")
    await ours.update(sets("ours"))
    await ours.checkpoint("c")
    assert ((await theirs.read()).version, await theirs.checkpoints(), await theirs.history()) == (0, {}, [])
    nobodys = WorkingState(world.client, "initech", "s")
    for attempt in (nobodys.read(), nobodys.update(adds(1)), nobodys.checkpoints(), nobodys.diff(0)):
        with pytest.raises(NotFound):
            await attempt


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "add", "log", "trim", "clear", "mark", "restore"]), st.integers(0, 5)),
    max_size=15,
)


@settings(max_examples=40)
@given(STEPS)
def test_every_version_that_was_there_can_be_read_and_restored_exactly(steps: list[tuple[str, int]]) -> None:
    async def live() -> None:
        state = await World().session()
        seen = [(await state.read()).values]
        marks: dict[str, dict[str, Any]] = {}
        for step, n in steps:
            match step:
                case "set":
                    await state.update(sets(str(n)))
                case "add":
                    await state.update(adds(n))
                case "log":
                    await state.update(StateUpdate({"log": [n] * n}))
                case "trim":
                    await state.update(StateUpdate(keep_only={"log": n}))
                case "clear":
                    await state.update(StateUpdate(keep_only=["count"]))
                case "mark" if f"m{n}" not in marks:
                    await state.checkpoint(f"m{n}")
                    marks[f"m{n}"] = seen[-1]
                case "restore" if marks:
                    name = sorted(marks)[n % len(marks)]
                    assert (await state.restore(name)).values == marks[name]
            now = await state.read()
            if now.version == len(seen):
                seen.append(now.values)
            assert now.values == seen[-1]
        for version, values in enumerate(seen):
            assert (await state.read(version)).values == values
        if len(seen) > 1:
            assert (await state.restore(version=0)).values == seen[0]

    asyncio.run(live())
