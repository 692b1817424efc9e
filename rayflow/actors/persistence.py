"""Asking again when the actor at an address is being replaced.

A question that nobody has begun to work on may be asked again without a second thought, and so may one whose handler
recognises a repetition. Anything else that got lost on the way may have been worked on: its asker decides. The pause
between two tries is short, because the directory learns of a death within milliseconds.

An error that an actor hands on names that actor (`via`): whoever asked it was answered, and asks nobody again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rayflow.clock import Clock
from rayflow.errors import Fenced, PeerLost, Unavailable, UnknownAddress, WorkflowError

PATIENCE_S = 5.0
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
        except WorkflowError as error:
            if clock.now() >= until or not (untouched(error) or (repeatable and died(error))):
                raise
        await asyncio.sleep(PAUSE_S)


def untouched(error: WorkflowError) -> bool:
    """Whether this error says that nobody has begun to work on the question."""
    match error:
        case WorkflowError(details={"via": _}):
            return False
        case UnknownAddress() | Fenced() | Unavailable(details={"draining": _}):
            return True
        case PeerLost():
            return not died(error)
        case _:
            return False


def died(error: WorkflowError) -> bool:
    """Whether this error says that the process which was asked died, and may have worked on the question by then."""
    return isinstance(error, PeerLost) and "via" not in error.details and bool(error.details.get("sent", True))


def relayed(error: WorkflowError, by: str) -> WorkflowError:
    """An error on its way out of `by`: where it tells of a process that is not there, it could be taken for `by`."""
    if not (untouched(error) or died(error)):
        return error
    return type(error)(error.message, **{**error.details, "via": by})
