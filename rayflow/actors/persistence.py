"""Asking again when the actor at an address is being replaced.

A question that never left this process may be asked again without a second thought, and so may one whose handler
recognises a repetition. Anything else that got lost on the way may have been worked on: its asker hears of it. The
pause between two tries is short, because the directory learns of a death within milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rayflow.clock import Clock
from rayflow.errors import PeerLost, UnknownAddress

PATIENCE_S = 3.0
PAUSE_S = 0.05

T = TypeVar("T")


async def persist(ask: Callable[[], Awaitable[T]], clock: Clock, *, repeatable: bool = False) -> T:
    """The answer of `ask`, tried again for up to `PATIENCE_S` while there is nobody to ask.

    `repeatable`: also when the question was sent and its answer lost. Raises what the last try raised.
    """
    until = clock.now() + PATIENCE_S
    while True:
        try:
            return await ask()
        except (UnknownAddress, PeerLost) as error:
            if clock.now() >= until or not (repeatable or not was_sent(error)):
                raise
        await asyncio.sleep(PAUSE_S)


def was_sent(error: UnknownAddress | PeerLost) -> bool:
    """Whether the other side may have seen the question."""
    return isinstance(error, PeerLost) and bool(error.details.get("sent", True))
