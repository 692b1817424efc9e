"""Connections that many requests share."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from rayflow.errors import Unavailable
from rayflow.stores.servers.pool import Pool, PoolLimits


class Connections:
    """Opens numbers in place of connections, and writes down what became of them."""

    def __init__(self, *, size: int = 2, overflow: int = 1, timeout_s: float = 30.0) -> None:
        self.opened = 0
        self.closed: list[tuple[int, bool]] = []
        self.refuses = False
        self.pool: Pool[int] = Pool(self._open, self._close, PoolLimits(size, overflow, timeout_s))

    async def _open(self) -> int:
        if self.refuses:
            raise OSError("refused")
        self.opened += 1
        return self.opened

    async def _close(self, connection: int, fit: bool) -> None:
        self.closed.append((connection, fit))

    async def lease_at_once(self, stack: AsyncExitStack, count: int) -> list[int]:
        return [await stack.enter_async_context(self.pool.lease()) for _ in range(count)]


async def test_a_connection_is_used_again() -> None:
    connections = Connections()
    for _ in range(3):
        async with connections.pool.lease() as connection:
            assert connection == 1
    assert (connections.opened, connections.pool.open) == (1, 1)


async def test_what_was_opened_at_a_peak_is_closed_after_it() -> None:
    connections = Connections(size=2, overflow=1)
    async with AsyncExitStack() as stack:
        await connections.lease_at_once(stack, 3)
    assert (connections.opened, connections.pool.open) == (3, 2)
    assert [fit for _, fit in connections.closed] == [True]


async def test_who_finds_all_in_use_waits_for_one() -> None:
    connections = Connections(size=1, overflow=0)
    async with connections.pool.lease():
        waiting = asyncio.create_task(_use(connections))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == 1


async def test_the_wait_has_an_end() -> None:
    connections = Connections(size=1, overflow=1, timeout_s=0.01)
    async with AsyncExitStack() as stack:
        await connections.lease_at_once(stack, 2)
        with pytest.raises(Unavailable, match="all 2 connections") as caught:
            await _use(connections)
    assert caught.value.retry_after_s == 1
    assert await _use(connections)


async def test_a_failure_closes_the_connection_and_those_that_lie_idle() -> None:
    connections = Connections(size=3)
    async with AsyncExitStack() as stack:
        await connections.lease_at_once(stack, 3)
    with pytest.raises(OSError):
        async with connections.pool.lease() as broken:
            raise OSError("lost")
    assert connections.closed[0] == (broken, False)
    assert sorted(number for number, _ in connections.closed) == [1, 2, 3]
    assert connections.pool.open == 0
    assert await _use(connections) == 4


async def test_a_cancelled_user_leaves_no_half_used_connection() -> None:
    connections = Connections(size=1, overflow=0)
    holding = asyncio.Event()

    async def hold() -> None:
        async with connections.pool.lease():
            holding.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await holding.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert connections.closed == [(1, False)]
    assert await _use(connections) == 2


async def test_a_refused_connection_takes_no_place() -> None:
    connections = Connections(size=1, overflow=0)
    connections.refuses = True
    for _ in range(3):
        with pytest.raises(OSError):
            await _use(connections)
    connections.refuses = False
    assert await _use(connections) == 1


async def _use(connections: Connections) -> int:
    async with connections.pool.lease() as connection:
        return connection
