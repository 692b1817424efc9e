"""The memory of a store actor: durable before it is told, one truth with the records, tidied when there is time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.batches import events_of

from rayflow.actors.memory_meaning import MemoryMeaning
from rayflow.actors.outbox import Outbox
from rayflow.actors.remembering import RememberingStore
from rayflow.actors.sessions import Sessions
from rayflow.caching import Counts
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import MemoryConfig
from rayflow.errors import ModelError, StorageError, ValidationError
from rayflow.events import Event
from rayflow.messages import (
    Consolidate,
    Consolidated,
    EraseRecords,
    EraseUser,
    EventBatch,
    Forget,
    ListMemories,
    Memory,
    ReadRecords,
    Recall,
    Recalled,
    RecordWrite,
    Remember,
    Remembered,
    WriteRecords,
)
from rayflow.policies.memory import decode
from rayflow.policies.preferences import PREFERENCES, bytes_of
from rayflow.policies.similarity import Vector
from rayflow.stores.memory import MemoryStore


class Broken(MemoryStore):
    """Its disk is full while `full`."""

    full = False

    async def write_records(self, request: WriteRecords, now_us: int) -> Any:
        if self.full:
            raise StorageError("the disk is full")
        return await super().write_records(request, now_us)


class Kept:
    """A store actor with a memory; `again` is the next one on the same store."""

    def __init__(self, meaning: MemoryMeaning | None = None, **config: Any) -> None:
        self.meaning = meaning
        self.config = MemoryConfig(enabled=True, **config)
        self.clock = ManualClock()
        self.fabric = InProcessFabric()
        self.events: list[Event] = []
        self.fabric.bind("eventlog/0", {EventBatch: lambda batch: self.events.extend(events_of(batch))})
        self.store = Broken(1000)
        self.actor = self.again()

    def again(self) -> RememberingStore:
        outbox = Outbox(self.fabric)
        sessions = Sessions("session/0", self.store, outbox, self.clock)
        self.actor = RememberingStore("session/0", sessions, self.store, self.config, outbox, self.clock, self.meaning)
        return self.actor

    async def ask(self, message: Any) -> Any:
        return await self.actor.handlers[type(message)](message)  # type: ignore[misc]

    async def texts(self, tenant: str = "t", user: str = "u", workflow: str = "w") -> list[str]:
        return [m.text for m in (await self.ask(ListMemories(tenant, user, workflow))).memories]


@asynccontextmanager
async def kept(**config: Any) -> AsyncIterator[Kept]:
    made = Kept(**config)
    await made.actor.start()
    try:
        yield made
    finally:
        await made.actor.stop()


def fact(number: int, text: str, **more: Any) -> Memory:
    return Memory(f"mem_{number}", "short_term", text, **more)


def remember(*memories: Memory, tenant: str = "t", user: str = "u", workflow: str = "w") -> Remember:
    return Remember(tenant, user, workflow, list(memories))


async def test_what_is_remembered_is_there_after_the_actor_has_died() -> None:
    async with kept() as world:
        assert await world.ask(remember(fact(1, "I live in Graz", importance=0.9))) == Remembered(1)

        world.again()

        recalled: Recalled = await world.ask(Recall("t", "u", "w", "where do I live?"))
        assert [found.memory.text for found in recalled.found] == ["I live in Graz"]
        assert recalled.found[0].memory.created_us == world.clock.wall_us()


@pytest.mark.parametrize("other", [{"tenant": "t2"}, {"user": "u2"}, {"workflow": "w2"}])
async def test_another_tenant_user_or_workflow_sees_nothing_of_it(other: dict[str, str]) -> None:
    async with kept() as world:
        await world.ask(remember(fact(1, "I live in Graz")))
        await world.ask(remember(fact(1, "I live in Oslo"), **other))

        assert await world.texts() == ["I live in Graz"]
        assert await world.texts(**other) == ["I live in Oslo"]
        where = {"tenant": "t", "user": "u", "workflow": "w"} | other
        recalled = await world.ask(Recall(*where.values(), "where do I live?", fill=True, top_k=50))
        assert [found.memory.text for found in recalled.found] == ["I live in Oslo"]
        await world.ask(Forget(*where.values()))
        assert await world.texts() == ["I live in Graz"]


async def test_nobody_has_no_memory() -> None:
    async with kept() as world:
        with pytest.raises(ValidationError, match="nobody"):
            await world.ask(remember(fact(1, "I live in Graz"), user=""))


async def test_what_could_not_be_written_is_not_remembered() -> None:
    async with kept() as world:
        world.store.full = True
        with pytest.raises(StorageError):
            await world.ask(remember(fact(1, "I live in Graz")))
        world.store.full = False

        assert await world.texts() == []
        assert await world.ask(remember(fact(1, "I live in Graz"))) == Remembered(1)


@pytest.mark.parametrize(
    "erase", [EraseUser("t", "u"), EraseRecords("t", "user/u"), EraseRecords("t", "user/u", "memory")]
)
async def test_after_erasure_nothing_comes_back(erase: Any) -> None:
    async with kept() as world:
        await world.ask(remember(fact(1, "I live in Graz"), fact(2, "I like tea")))
        await world.ask(Recall("t", "u", "w", "tea", use=True))  # what was used waits to be written

        await world.ask(erase)

        assert await world.texts() == []
        await world.ask(remember(fact(3, "I like milk")))
        assert await world.texts() == ["I like milk"]
        world.again()
        assert await world.texts() == ["I like milk"]


async def test_two_actors_on_one_store_lose_nothing_of_each_other() -> None:
    async with kept() as world:
        first = world.actor
        await world.ask(remember(fact(1, "I live in Graz", subject="home")))
        second = world.again()
        await second.handlers[Remember](remember(fact(2, "I like tea")))  # type: ignore[misc]
        await first.handlers[Recall](Recall("t", "u", "w", "Graz", use=True))  # type: ignore[misc]
        await second.handlers[Recall](Recall("t", "u", "w", "Graz", use=True))  # type: ignore[misc]
        await first.handlers[Remember](remember(fact(3, "I own a car")))  # type: ignore[misc]
        await second.handlers[Remember](remember(fact(4, "I play chess")))  # type: ignore[misc]

        world.again()
        assert await world.texts() == ["I live in Graz", "I like tea", "I own a car", "I play chess"]


async def test_remembering_many_at_once_adds_each_once() -> None:
    async with kept(max_items=1000) as world:
        turns = [remember(fact(n, f"Fact number {n} is {n * n}")) for n in range(50)]
        await asyncio.gather(*(world.ask(turn) for turn in turns * 2))

        assert len(await world.texts()) == 50


async def test_more_than_the_limit_goes_from_the_store_too() -> None:
    async with kept(max_items=3) as world:
        for number in range(6):
            await world.ask(remember(fact(number, f"Fact number {number}")))
        world.again()

        assert await world.texts() == [f"Fact number {n}" for n in (3, 4, 5)]
        [*_, last] = [event for event in await _seen(world, 6) if event.kind == "memory.remembered"]
        assert last.data == {"memories": 1, "superseded": 0, "evicted": 1}
        assert (last.tenant, last.user_id) == ("t", "u")


async def test_preferences_come_with_what_is_recalled() -> None:
    async with kept() as world:
        write = RecordWrite(PREFERENCES, PREFERENCES, bytes_of({"language": "German"}))
        await world.ask(WriteRecords("t", "user/u", [write]))

        assert (await world.ask(Recall("t", "u", "w", "", preferences=True))).preferences == {"language": "German"}
        assert (await world.ask(Recall("t2", "u", "w", "", preferences=True))).preferences == {}


async def test_a_record_that_is_no_memory_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async with kept() as world:
        await world.ask(WriteRecords("t", "user/u", [RecordWrite("memory", "w/mem_0", b"\x01nonsense")]))
        await world.ask(remember(fact(1, "I live in Graz")))

        assert await world.texts() == ["I live in Graz"]
        assert "w/mem_0" in caplog.text


class Embedding:
    """Knows that a beagle is a dog."""

    name = "beagles"
    counts = Counts()
    broken = False

    def __len__(self) -> int:
        return 0

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector]:
        if self.broken:
            raise ModelError("out of order")
        return [[1.0, 0.0] if "beagle" in text or "dog" in text else [0.0, 1.0] for text in texts]

    async def close(self) -> None: ...


async def test_with_vectors_what_is_meant_is_found_and_without_an_answer_what_is_said() -> None:
    model = Embedding()
    async with kept(meaning=MemoryMeaning(lambda: model, 1.0)) as world:
        await world.ask(remember(fact(1, "I have a beagle"), fact(2, "The train was late")))

        found = (await world.ask(Recall("t", "u", "w", "what about my dog?"))).found
        assert [each.memory.text for each in found] == ["I have a beagle"]
        model.broken = True
        assert (await world.ask(Recall("t", "u", "w", "what about my dog?"))).found == []
        assert len((await world.ask(Recall("t", "u", "w", "which train?"))).found) == 1


async def test_pages_follow_each_other() -> None:
    async with kept() as world:
        await world.ask(remember(*(fact(n, f"Fact number {n}") for n in range(5))))

        page = await world.ask(ListMemories("t", "u", "w", limit=3))
        rest = await world.ask(ListMemories("t", "u", "w", after=page.memories[-1].id, limit=3))
        assert ([len(page.memories), page.more], [len(rest.memories), rest.more]) == ([3, True], [2, False])


async def test_memories_are_consolidated_when_nobody_has_asked_for_a_while() -> None:
    async with kept(consolidation_idle_s=30, consolidation_interval_s=3600) as world:
        await world.ask(remember(fact(1, "I am allergic to nuts", importance=0.9)))
        await world.actor.memories.consolidate_some()
        assert await _kinds(world) == ["short_term"], "it was asked just now"

        world.clock.advance(31)
        await world.actor.memories.consolidate_some()

        assert await _kinds(world) == ["long_term"]
        await world.ask(remember(fact(2, "I am deaf", importance=0.9)))
        world.clock.advance(31)
        await world.actor.memories.consolidate_some()
        assert await _kinds(world) == ["long_term", "short_term"], "once in an interval"
        world.clock.advance(3600)
        await world.actor.memories.consolidate_some()
        assert await _kinds(world) == ["long_term", "long_term"]


async def test_off_peak_it_need_not_be_idle() -> None:
    async with kept(off_peak=[{"start": "00:00", "end": "00:00"}]) as world:
        await world.ask(remember(fact(1, "I am allergic to nuts", importance=0.9)))
        await world.actor.memories.consolidate_some()

        assert await _kinds(world) == ["long_term"]


async def test_consolidation_can_be_asked_for() -> None:
    async with kept() as world:
        await world.ask(remember(fact(1, "I am allergic to nuts", importance=0.9), fact(2, "Whatever", importance=0.1)))

        assert await world.ask(Consolidate("t", "u", "w")) == Consolidated(promoted=1, forgotten=1)
        world.again()
        assert await _kinds(world) == ["long_term"]


async def _kinds(world: Kept) -> list[str]:
    """As stored: to ask the actor would keep it from being idle."""
    records = (await world.store.read_records(ReadRecords("t", "user/u", "memory"), world.clock.wall_us())).records
    return [decode(record.value).kind for record in records]


async def _seen(world: Kept, least: int) -> list[Event]:
    async with asyncio.timeout(5):
        while len([event for event in world.events if event.kind == "memory.remembered"]) < least:
            await asyncio.sleep(0)
    return world.events
