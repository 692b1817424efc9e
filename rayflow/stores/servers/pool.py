"""Connections to one server, shared by many requests.

Some connections stay open between uses; more are opened at a peak and closed after it (`PoolLimits`). Whoever finds
all of them in use waits, first come first served. A connection whose use ended in an
exception is closed, because nobody knows what it would answer next; and where one was lost, those that lie idle most
likely are too: they are closed as well, so that a server which was restarted costs one failure and not one for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, NamedTuple, TypeVar

from rayflow.errors import Unavailable

C = TypeVar("C")


class PoolLimits(NamedTuple):
    """`size` connections are kept, `overflow` more are opened at a peak; `timeout_s`: the longest wait for one."""

    size: int = 20
    overflow: int = 10
    timeout_s: float = 30.0


LIMITS = PoolLimits()


class Pool(Generic[C]):
    """`connect` opens a connection and raises what it likes. `close` ends one, told whether it is fit for a farewell,
    and must neither raise nor wait long."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        close: Callable[[C, bool], Awaitable[None]],
        limits: PoolLimits,
    ) -> None:
        self._connect = connect
        self._close = close
        self._size = limits.size
        self._most = limits.size + limits.overflow
        self._timeout_s = limits.timeout_s
        self._free = asyncio.Semaphore(self._most)
        self._idle: list[C] = []
        self.open = 0

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[C]:
        """A connection for the length of a block. Raises `Unavailable` where all stay in use, and what `connect`
        raises."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable(
                f"all {self._most} connections to the session store were in use for {self._timeout_s:g} s:"
                " try again, or raise session.pool_size",
                retry_after_s=1,
            ) from None
        try:
            connection = self._idle.pop() if self._idle else await self._opened()
            try:
                yield connection
            except BaseException:
                await self._end(connection, False)
                await self.clear()
                raise
            if self.open > self._size:
                await self._end(connection, True)
            else:
                self._idle.append(connection)
        finally:
            self._free.release()

    async def clear(self) -> None:
        """Close what is not in use."""
        while self._idle:
            await self._end(self._idle.pop(), True)

    async def _opened(self) -> C:
        self.open += 1
        try:
            return await self._connect()
        except BaseException:
            self.open -= 1
            raise

    async def _end(self, connection: C, fit: bool) -> None:
        self.open -= 1
        await self._close(connection, fit)
