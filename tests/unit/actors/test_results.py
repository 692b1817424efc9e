"""The result cache where actors of it are away, slow, or several."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from actor_doubles import PATIENCE_S

from rayflow.actors.kept_results import KeptResults
from rayflow.actors.outbox import Outbox
from rayflow.actors.results import REFRESH_S, Results
from rayflow.actors.sessions import Sessions
from rayflow.actors.work import Work
from rayflow.chat import Message, ModelParams, Usage
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import StorageError
from rayflow.messages import (
    Answer,
    ForgetAnswers,
    FoundAnswer,
    GetAnswer,
    KeepAnswer,
    Payload,
    ReadRecords,
    RecordWrite,
    RunRequest,
    RunResult,
    WriteRecords,
)
from rayflow.messages.caches import FORGOTTEN, KIND
from rayflow.messages.records import TENANT
from rayflow.policies.routing import Decision
from rayflow.runtime.ports import Handler
from rayflow.runtime.run import Run
from rayflow.stores.memory import MemoryStore


def config(**results: Any) -> WorkflowConfig:
    given = {"name": "w", "agents": [{"name": "a"}], "caches": {"results": {"enabled": True, **results}}}
    return WorkflowConfig.model_validate(given)


class Scene:
    """One store, and as many routers' caches as wanted."""

    def __init__(self, **results: Any) -> None:
        self.config = config(**results)
        self.clock = ManualClock(100.0)
        self.fabric = InProcessFabric()
        self.sessions = Sessions("session/0", MemoryStore(100), Outbox(self.fabric), self.clock)
        self.store = KeptResults(self.sessions, self.config.caches.results, self.clock)
        self.fabric.bind("session/0", self.store.handlers)
        self._runs = 0

    def router(self) -> Results:
        return Results(self.config, self.fabric, self.clock)

    def work(self, text: str = "hello", tenant: str = "t", **fields: Any) -> Work:
        self._runs += 1
        messages = [Message("user", text)]
        request = RunRequest(f"r{self._runs}", f"s{self._runs}", messages, tenant=tenant, **fields)
        work = Work(Run(request, "w", "router/0", 0.0), context=messages)
        work.run.enriched()
        work.run.routed(Decision(("a",), 1.0, "named", ""), 0)
        return work

    async def restart(self) -> None:
        """The store's memory is gone."""
        self.store = KeptResults(self.sessions, self.config.caches.results, self.clock)
        self.fabric.bind("session/0", self.store.handlers)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def answered(work: Work, text: str = "hi") -> RunResult:
    return RunResult(work.request.run_id, work.request.session_id, text, "stop", Usage(1, 1), "m", ["a"])


async def say(router: Results, scene: Scene, **fields: Any) -> str:
    """Ask, and where nothing is kept, have the agent say "hi"."""
    work = scene.work(**fields)
    found = await router.recall(work)
    if found is None:
        router.ended(work, answered(work))
    await scene.settle()
    return work.run.cache


async def test_routers_share_what_the_store_keeps_also_after_it_restarted() -> None:
    scene = Scene()
    one, two, three = scene.router(), scene.router(), scene.router()
    assert [await say(router, scene) for router in (one, one, two)] == ["miss", "hit", "hit"]
    await scene.restart()
    assert await say(three, scene) == "hit"


@pytest.mark.parametrize(
    ("levels", "outcomes"),
    [
        (["router"], ["hit", "miss", "miss"]),
        (["shared"], ["hit", "hit", "miss"]),
        (["store"], ["hit", "hit", "hit"]),
        (["router", "store"], ["hit", "hit", "hit"]),
    ],
)
async def test_each_level_is_as_far_reaching_as_it_says(levels: list[str], outcomes: list[str]) -> None:
    scene = Scene(levels=levels)
    if levels == ["router"]:
        scene.fabric.bind("session/0", scene.sessions.handlers)
    one = scene.router()
    assert await say(one, scene) == "miss"
    seen = [await say(one, scene), await say(scene.router(), scene)]
    if levels != ["router"]:
        await scene.restart()
    assert [*seen, await say(scene.router(), scene)] == outcomes


async def test_an_answer_goes_with_its_time_at_every_level() -> None:
    scene = Scene(ttl_s=10)
    router = scene.router()
    await say(router, scene)
    scene.clock.advance(9.9)
    assert await say(router, scene) == "hit"
    scene.clock.advance(0.2)
    assert await say(router, scene) == "miss"


async def test_a_promoted_answer_keeps_its_time() -> None:
    scene = Scene(ttl_s=10)
    await say(scene.router(), scene)
    scene.clock.advance(9)
    other = scene.router()
    assert await say(other, scene) == "hit"
    scene.clock.advance(2)
    assert await say(other, scene) == "miss"


async def test_while_the_store_is_away_agents_are_asked(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    router = scene.router()
    scene.fabric.unbind("session/0")
    assert await say(router, scene) == "bypass"
    assert "result cache" in caplog.text
    scene.fabric.bind("session/0", scene.store.handlers)
    assert await say(router, scene) == "miss"
    scene.fabric.unbind("session/0")
    assert await say(router, scene) == "hit", "it is in the router"
    assert await say(router, scene, text="other") == "miss"


class Failing:
    """A store whose records cannot be written."""

    def __init__(self, inner: Sessions) -> None:
        self._inner = inner

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        async def fail(_: WriteRecords) -> Payload:
            raise StorageError("disk gone")

        return {**self._inner.handlers, WriteRecords: fail}

    async def start(self) -> None: ...

    async def drain(self, budget_s: float) -> list[str]:
        return []

    async def stop(self) -> None: ...


async def test_a_record_that_cannot_be_written_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.store = KeptResults(Failing(scene.sessions), scene.config.caches.results, scene.clock)
    scene.fabric.bind("session/0", scene.store.handlers)
    await say(scene.router(), scene)
    assert "disk gone" in caplog.text
    assert await say(scene.router(), scene) == "hit", "it is in the memory of the store"
    assert await scene.store.drain(1.0) == []
    await scene.store.stop()


async def test_another_tenant_finds_nothing_even_with_the_key() -> None:
    scene = Scene()
    expires_us = scene.clock.wall_us() + 10_000_000
    scene.fabric.tell("session/0", KeepAnswer("one", "ab12", Answer("secret"), expires_us))
    await scene.settle()
    for tenant, text in (("one", "secret"), ("two", None)):
        found: FoundAnswer = await scene.fabric.ask("session/0", GetAnswer(tenant, "ab12"), PATIENCE_S)
        assert (found.answer.text if found.answer else None) == text
        await scene.restart()  # the records do not tell it either


async def test_a_router_that_was_not_told_reads_for_itself_in_time() -> None:
    scene = Scene()
    router = scene.router()
    await say(router, scene)
    write = RecordWrite(KIND, FORGOTTEN, b'{"":7}')
    await scene.fabric.ask("session/0", WriteRecords("t", TENANT, [write]), PATIENCE_S)
    assert await say(router, scene) == "hit"
    scene.clock.advance(REFRESH_S + 0.1)
    assert await say(router, scene) == "miss"


async def test_numbers_only_grow_whatever_comes_late() -> None:
    scene = Scene()
    router = scene.router()
    router.forget(ForgetAnswers("t", counts={"": 5, "a": 2}))
    await say(router, scene)
    router.forget(ForgetAnswers("t", counts={"": 4}))
    assert await say(router, scene) == "hit"
    router.forget(ForgetAnswers("t", counts={"a": 3}))
    assert await say(router, scene) == "miss"
    router.forget(ForgetAnswers(everywhere=1))
    assert await say(router, scene) == "miss"


async def test_a_read_that_was_under_way_when_answers_were_forgotten_brings_none_back() -> None:
    scene = Scene()
    router = scene.router()
    reading, go = asyncio.Event(), asyncio.Event()
    plain = scene.store.handlers

    async def held(request: ReadRecords) -> Any:
        reply = await plain[ReadRecords](request)  # type: ignore[misc]
        reading.set()
        await go.wait()
        return reply

    scene.fabric.bind("session/0", {**plain, ReadRecords: held})
    work = scene.work()
    recalling = asyncio.create_task(router.recall(work))
    await reading.wait()
    router.forget(ForgetAnswers("t", counts={"": 9}))
    go.set()
    assert await recalling is None
    router.ended(work, answered(work))
    other = scene.router()
    other.forget(ForgetAnswers("t", counts={"": 9}))
    await scene.settle()
    assert await say(other, scene) == "hit", "it was kept under the new number"


async def test_who_waits_for_an_equal_question_that_fails_asks_for_itself() -> None:
    scene = Scene()
    router = scene.router()
    first, second, streamed = scene.work(), scene.work(), scene.work(stream=True)
    assert await router.recall(first) is None
    waiting = asyncio.create_task(router.recall(second))
    assert await router.recall(streamed) is None, "a stream does not wait"
    await scene.settle()
    assert not waiting.done()
    router.ended(first, StorageError("no"))
    assert await waiting is None and second.run.cache == "miss"
    router.ended(second, answered(second))
    router.ended(streamed, answered(streamed))
    assert await say(router, scene) == "hit"


@pytest.mark.parametrize("spoil", ["retried", "length", "cancelled"])
async def test_what_did_not_go_well_is_not_kept(spoil: str) -> None:
    scene = Scene()
    router = scene.router()
    work = scene.work()
    await router.recall(work)
    outcome: RunResult | BaseException = answered(work)
    if spoil == "retried":
        work.run.parts[0].attempt = 2
    elif spoil == "length":
        outcome = RunResult("r", "s", "hi", "length", Usage(), "m", ["a"])
    else:
        outcome = asyncio.CancelledError()
    router.ended(work, outcome)
    assert await say(router, scene) == "miss"


async def test_what_is_not_kept_is_not_asked_of_anybody() -> None:
    scene = Scene()
    scene.fabric.unbind("session/0")
    tools = ModelParams(tools=[{"type": "function", "function": {"name": "f"}}])
    assert await say(scene.router(), scene, params=tools) == "bypass"
