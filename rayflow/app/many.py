"""Many items through a workflow from Python: a bounded number at a time, one outcome for each, in their order.

For datasets in files, with resuming, there is `rayflow batch` (docs/batch.md); this is for what a program holds anyway.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rayflow.chat import Message
from rayflow.errors import ErrorInfo, ValidationError, to_info
from rayflow.ids import new_run_id, new_session_id
from rayflow.messages import RunRequest

Item = str | Mapping[str, Any]
"""A text, or `{"message", "user_id"?, "session_id"?}`."""
Outcome = dict[str, Any]
"""`{"input", "output", "metadata"}`, or `{"input", "error"}` where the item failed."""

AHEAD = 16

T = TypeVar("T")
_FIELDS = frozenset(("message", "user_id", "session_id"))


async def in_order(
    items: Iterable[T], work: Callable[[T], Coroutine[Any, Any, Outcome]], at_once: int
) -> AsyncGenerator[Outcome, None]:
    """The outcome of each item, in order. `work` is under way for `at_once` of them at most; items are taken as they
    are begun. Closing the generator cancels what is under way.

    An outcome that waits for an earlier one to be told holds no place, so that a slow item holds up nobody; `AHEAD`
    bounds how many may wait.
    """
    left = iter(items)
    window: deque[asyncio.Task[Outcome]] = deque()
    pending: set[asyncio.Task[Outcome]] = set()
    try:
        while True:
            for item in islice(left, min(at_once - len(pending), AHEAD * at_once - len(window))):
                window.append(asyncio.create_task(work(item)))
                pending.add(window[-1])
            if not window:
                return
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            while window and window[0].done():
                yield window.popleft().result()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


@contextmanager
def written(path: Path | None) -> Iterator[Callable[[Outcome], None]]:
    """Writes each outcome that it is called with as a line of JSON; without a path, nothing."""
    if path is None:
        yield lambda _: None
        return
    with path.open("wb", buffering=0) as file:

        def write(outcome: Outcome) -> None:
            file.write(msgspec.json.encode(outcome) + b"\n")

        yield write


def request_of(item: Item) -> RunRequest:
    """Raises `ValidationError` for what is no item."""
    given: Mapping[str, Any] = {"message": item} if isinstance(item, str) else item
    if not isinstance(given, Mapping) or not isinstance(given.get("message"), str) or given.keys() - _FIELDS:
        raise ValidationError('an item is a text, or {"message", "user_id"?, "session_id"?}')
    session_id = given.get("session_id")
    return RunRequest(
        run_id=new_run_id(),
        session_id=session_id or new_session_id(),
        messages=[Message("user", given["message"])],
        user_id=given.get("user_id") or "",
        new_session=session_id is None,
        channel="batch",
        service_class="batch",
    )


def failed(item: Item, error: Exception) -> Outcome:
    info: ErrorInfo = to_info(error)
    return {"input": item, "error": {"slug": info.slug, "message": info.message}}
