"""A race between a call and a second one that is made only when the first takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def hedged(
    first: Coroutine[Any, Any, T],
    sent: asyncio.Future[str],
    after_s: float,
    second: Callable[[], Coroutine[Any, Any, T] | None],
    drop: Callable[[BaseException], None],
) -> T:
    """The first good answer. `second` is asked for a second call when `first` has been on its way for `after_s`; `sent`
    is done when it is. Who loses is cancelled, and `drop` gets the errors that nobody hears.

    Where both fail, the error is that of `first`.
    """
    leader = asyncio.ensure_future(first)
    runners: set[asyncio.Future[T]] = {leader}
    heard: asyncio.Future[T] = leader
    try:
        either: set[asyncio.Future[Any]] = {leader, sent}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({leader}, timeout=after_s)
        if not leader.done() and (follower := second()) is not None:
            runners.add(asyncio.ensure_future(follower))
        running = runners
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if winner := next((runner for runner in done if not runner.cancelled() and not runner.exception()), None):
                heard = winner
                break
        return heard.result()
    finally:
        for runner in runners:
            runner.cancel()
        for lost in await asyncio.gather(*(runners - {heard}), return_exceptions=True):
            if isinstance(lost, BaseException):
                drop(lost)
