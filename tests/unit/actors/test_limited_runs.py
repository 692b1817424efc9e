"""Runs under limits, from the router to the books: what is admitted, and what they pay for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, USAGE, HeldModel, Team, bind_agent, config, settle, team

from rayflow.actors.accounts import ADDRESS, AccountKeeper
from rayflow.chat import ModelChunk, ModelRequest
from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import BudgetExceeded, ModelRejected, Overloaded, RateLimited
from rayflow.messages import Reserve, Token
from rayflow.runtime.accounts import Use
from rayflow.stores.books import MemoryBooks, SqliteBooks


class Endless(HeldModel):
    """Streams three pieces, and nothing more until it is cancelled."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        for piece in ("one", "two", "three"):
            yield ModelChunk((piece,))
        await self._count(1)
        try:
            await asyncio.Event().wait()
        finally:
            await self._count(-1)


@asynccontextmanager
async def limited(books: Any = None, model: Any = lambda _: HeldModel(), **sections: Any) -> AsyncIterator[Team]:
    configuration = config({"name": "a", "replicas": {"max_in_flight": 100}}, **sections)
    async with team(configuration, model=model) as t:
        t.keeper = AccountKeeper(ADDRESS, configuration, books or MemoryBooks(), SYSTEM_CLOCK)  # type: ignore[attr-defined]
        await t.keeper.start()  # type: ignore[attr-defined]
        t.fabric.bind(ADDRESS, t.keeper.handlers)  # type: ignore[attr-defined]
        yield t
        await t.router._admission.settled()
        await t.keeper.stop()  # type: ignore[attr-defined]


async def used(t: Team, name: str = "workflow:day") -> Use:
    """What is used and reserved once all that is over is settled."""
    await settle()
    await t.router._admission.settled()
    found: Use = t.keeper._accounts.committed(name)  # type: ignore[attr-defined]
    return found


async def test_of_a_thousand_runs_at_once_exactly_as_many_pass_as_the_budget_allows(tmp_path: Path) -> None:
    books = SqliteBooks(tmp_path / "accounts.sqlite")
    async with limited(books, limits={"workflow": {"max_requests": 100}}) as t:
        outcomes = await asyncio.gather(
            *(t.run(session=f"s{i}", timeout_s=60) for i in range(1000)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded)]
        assert (len(refused), len(outcomes) - len(refused)) == (900, 100)
        assert all(not isinstance(o, BaseException) or o in refused for o in outcomes)
        assert await used(t) == Use(100, 100 * USAGE.total_tokens, 0)
        assert len(t.models["a"].requests) == 100


async def test_a_refused_run_leaves_no_trace_in_its_session() -> None:
    async with limited(limits={"user": {"requests": 1}}) as t:
        await t.run("first")
        with pytest.raises(RateLimited) as refused:
            await t.run("second")
        assert refused.value.retry_after_s
        assert await t.turns() == [("user", "first"), ("assistant", "done")]


async def test_a_cancelled_stream_settles_what_it_used() -> None:
    async with limited(model=lambda _: Endless(), limits={"workflow": {"max_tokens": 100_000}}) as t:
        run = t.start("x" * 400, client="client/0", stream=True)
        await t.models["a"].busy()
        assert (await used(t)).tokens == 100 + 2000
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await used(t) == Use(1, 100 + 3, 0)
        assert "".join(p for h in t.heard if isinstance(h, Token) for p in h.pieces).startswith("one")


async def test_a_run_that_its_model_refused_has_used_a_request_and_no_tokens() -> None:
    async with limited(limits={"workflow": {"max_tokens": 10_000}}) as t:
        t.models["a"].errors.append(ModelRejected("no"))
        with pytest.raises(ModelRejected):
            await t.run()
        assert await used(t) == Use(1, 0, 0)


async def test_a_run_that_found_no_place_is_void() -> None:
    async with limited(
        model=lambda _: HeldModel(held=True), processing={"max_queue": 0}, limits={"workflow": {"max_tokens": 10**6}}
    ) as t:
        running = [t.start(session=f"s{i}") for i in range(100)]
        await t.models["a"].busy(100)
        with pytest.raises(Overloaded):
            await t.run(session="another")
        assert (await used(t)).requests == 100
        t.models["a"].released.set()
        await asyncio.gather(*running)
        assert await used(t) == Use(100, 100 * USAGE.total_tokens, 0)


async def test_a_repetition_of_a_run_is_paid_for_once() -> None:
    async with limited(limits={"workflow": {"max_requests": 10}}) as t:
        for _ in range(3):
            await t.run(run_id="run_same", repeatable=True)
        assert (await used(t)).requests == 1


async def test_what_earlier_turns_add_to_the_prompt_is_reserved_when_it_is_known() -> None:
    asked: list[Reserve] = []
    async with limited(limits={"workflow": {"max_tokens": 10**6}, "tokens_estimate": 10}) as t:
        await t.run("x" * 400)
        reserve = t.keeper._reserve  # type: ignore[attr-defined]

        async def listen(message: Reserve) -> Any:
            asked.append(message)
            return await reserve(message)

        t.fabric.bind(ADDRESS, {**t.keeper.handlers, Reserve: listen})  # type: ignore[attr-defined]
        await t.run("y" * 40)
        assert [message.tokens for message in asked] == [10 + 10, 10 + 100 + 1 + 10]


async def test_without_limits_the_accounts_are_never_asked() -> None:
    async with limited() as t:
        t.fabric.unbind(ADDRESS)
        await asyncio.wait_for(t.run(), PATIENCE_S)
        bind_agent(t, "a", 1)
        await t.run(service_class="batch")
