"""A run belongs to the client that waits for it: when that client leaves, the run is cancelled.

ASGI tells of a disconnect only to those who wait for it, so a second task waits while the request is worked on. It
cancels the work by cancelling its task: what the work awaits (the ask to the router) passes that on upstream.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from starlette.types import Receive

from rayflow.api.problems import ClientGone


class ClientGuard:
    """`with ClientGuard(receive):` cancels its body when the client goes away, and raises `ClientGone` in its place.

    Enter it when the request's body has been read: what else `receive` gives is the disconnect.
    """

    __slots__ = ("_reason", "_task", "_watch")

    def __init__(self, receive: Receive) -> None:
        self._reason = ""
        self._task = asyncio.current_task()
        self._watch: asyncio.Future[Any] = asyncio.ensure_future(receive())

    def __enter__(self) -> ClientGuard:
        self._watch.add_done_callback(self._disconnected)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._watch.remove_done_callback(self._disconnected)
        self._watch.cancel()
        if self._reason and kind is asyncio.CancelledError and self._task is not None:
            self._task.uncancel()
            raise ClientGone(self._reason) from None

    def drop(self, reason: str) -> None:
        """Give this client up."""
        if self._task is not None and not self._reason:
            self._reason = reason
            self._task.cancel()

    def _disconnected(self, watch: asyncio.Future[Any]) -> None:
        self.drop("the client disconnected")
