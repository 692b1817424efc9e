"""The accounts actor: one place for all, durable before it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, config

from rayflow.actors import accounts
from rayflow.actors.accounts import ADDRESS, AccountKeeper
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import BudgetExceeded, RateLimited, StorageFull, Unavailable
from rayflow.messages import Ack, Booking, Reserve, Settle
from rayflow.runtime.ports import Books
from rayflow.stores.books import MemoryBooks, SqliteBooks

Opener = Callable[..., AbstractAsyncContextManager[AccountKeeper]]


@pytest.fixture
def fabric() -> InProcessFabric:
    return InProcessFabric()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keeper(fabric: InProcessFabric, clock: ManualClock) -> Opener:
    """An accounts actor with these limits."""

    @asynccontextmanager
    async def started(books: Books, **limits: Any) -> AsyncIterator[AccountKeeper]:
        made = AccountKeeper(ADDRESS, config(limits=limits), books, clock)
        await made.start()
        fabric.bind(ADDRESS, made.handlers)
        yield made
        fabric.unbind(ADDRESS)
        await made.stop()

    return started


async def admitted(fabric: InProcessFabric, *requests: Reserve) -> int:
    outcomes = await asyncio.gather(
        *(fabric.ask(ADDRESS, request, PATIENCE_S) for request in requests), return_exceptions=True
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, BudgetExceeded | RateLimited):
            raise outcome
    return sum(not isinstance(outcome, BaseException) for outcome in outcomes)


def runs(count: int, **facts: Any) -> list[Reserve]:
    return [Reserve(f"run{i}", "t", "u", **facts) for i in range(count)]


async def test_a_thousand_at_once_against_a_budget_for_a_hundred(
    fabric: InProcessFabric, keeper: Opener, tmp_path: Path
) -> None:
    books = SqliteBooks(tmp_path / "accounts.sqlite")
    async with keeper(books, workflow={"max_tokens": 50_000}):
        assert await admitted(fabric, *runs(1000, tokens=500)) == 100
        assert books.commits < 50


async def test_the_next_process_goes_on_with_the_same_books(
    fabric: InProcessFabric, keeper: Opener, tmp_path: Path
) -> None:
    for expected in (60, 40, 0):
        async with keeper(SqliteBooks(tmp_path / "accounts.sqlite"), workflow={"max_requests": 100}):
            run_ids = [f"{expected}-{i}" for i in range(60)]
            assert await admitted(fabric, *(Reserve(run_id, "t") for run_id in run_ids)) == expected
            for run_id in run_ids[::2]:
                assert await fabric.ask(ADDRESS, Settle(run_id), PATIENCE_S) == Ack()


async def test_rates_and_budgets_are_taken_together_or_not_at_all(fabric: InProcessFabric, keeper: Opener) -> None:
    async with keeper(MemoryBooks(), workflow={"requests": 10, "max_tokens": 1000}):
        assert await admitted(fabric, *runs(5, tokens=2000)) == 0
        assert await admitted(fabric, *runs(20, tokens=1)) == 10


async def test_a_reservation_is_acknowledged_only_when_it_is_on_disk(fabric: InProcessFabric, keeper: Opener) -> None:
    class Slow(MemoryBooks):
        def __init__(self) -> None:
            super().__init__()
            self.disk = asyncio.Lock()

        async def write(self, booking: Booking) -> None:
            async with self.disk:
                await super().write(booking)

    books = Slow()
    async with keeper(books, workflow={"max_requests": 10}):
        await books.disk.acquire()
        asked = [asyncio.create_task(fabric.ask(ADDRESS, runs(1)[0], PATIENCE_S)) for _ in range(2)]
        done, _ = await asyncio.wait(asked, timeout=0.01)
        assert not done  # neither the first nor its repetition
        books.disk.release()
        await asyncio.gather(*asked)


async def test_what_could_not_be_written_down_is_not_reserved(fabric: InProcessFabric, keeper: Opener) -> None:
    class Full(MemoryBooks):
        full = True

        async def write(self, booking: Booking) -> None:
            if self.full:
                raise StorageFull("no space left")
            await super().write(booking)

    books = Full()
    async with keeper(books, workflow={"max_requests": 1}):
        with pytest.raises(StorageFull):
            await admitted(fabric, *runs(1))
        books.full = False
        assert await admitted(fabric, *runs(3)) == 1


async def test_what_nobody_settles_counts_as_used(
    fabric: InProcessFabric, keeper: Opener, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "EXPIRY_S", 0.001)
    written = asyncio.Event()

    class Watched(MemoryBooks):
        async def write(self, booking: Booking) -> None:
            await super().write(booking)
            if booking.gone:
                written.set()

    async with keeper(Watched(), workflow={"max_tokens": 100}):
        assert await admitted(fabric, *runs(1, tokens=60)) == 1
        clock.advance(config().processing.request_timeout_s + accounts.GRACE_S)
        await asyncio.wait_for(written.wait(), PATIENCE_S)
        await fabric.ask(ADDRESS, Settle("run0", void=True), PATIENCE_S)
        assert await admitted(fabric, Reserve("next", "t", tokens=41)) == 0
        assert await admitted(fabric, Reserve("next", "t", tokens=40)) == 1


async def test_while_draining_it_takes_nothing_new(fabric: InProcessFabric, keeper: Opener) -> None:
    async with keeper(MemoryBooks(), workflow={"max_tokens": 100}) as actor:
        assert await actor.drain(0.1) == []
        with pytest.raises(Unavailable, match="draining"):
            await fabric.ask(ADDRESS, runs(1)[0], PATIENCE_S)
