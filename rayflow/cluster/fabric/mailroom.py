"""The handlers of one process: which function takes which message, and how a call of it is carried out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Mapping

from rayflow.clock import SYSTEM_CLOCK, deadline
from rayflow.errors import UnknownAddress, WorkflowError, to_info
from rayflow.messages import Ack, Failure, Payload
from rayflow.runtime.ports import Handler

log = logging.getLogger(__name__)

ACK = Ack()


class Mailroom:
    def __init__(self) -> None:
        self._handlers: dict[str, Mapping[type[Payload], Handler]] = {}
        self._told: set[asyncio.Task[Payload]] = set()

    def bind(self, address: str, handlers: Mapping[type[Payload], Handler]) -> None:
        self._handlers[address] = handlers

    def unbind(self, address: str) -> None:
        self._handlers.pop(address, None)

    def __contains__(self, address: str) -> bool:
        return address in self._handlers

    def call(self, to: str, message: Payload, timeout_s: float) -> Payload | asyncio.Task[Payload]:
        """Run the handler. A plain function's reply is returned; a coroutine becomes a task that ends in the reply.

        Never raises: what goes wrong is a `Failure`.
        """
        handlers = self._handlers.get(to)
        handler = handlers.get(type(message)) if handlers else None
        if handler is None:
            what = f"{to} does not take {type(message).__name__}" if handlers else f"no actor at {to} in this process"
            return Failure(UnknownAddress(what, address=to).to_info())
        try:
            result = handler(message)
        except Exception as error:
            return _failed(to, message, error)
        if result is None or isinstance(result, Payload):
            return result or ACK
        task = asyncio.get_running_loop().create_task(_finish(to, message, result, timeout_s))
        if isinstance(result, Coroutine):
            # Cancelled before its first step, it would never be awaited.
            task.add_done_callback(lambda _: result.close())
        return task

    def tell(self, to: str, message: Payload) -> None:
        """Run the handler and drop its reply. Nobody hears of a failure, so it is logged."""
        result = self.call(to, message, 0.0)
        if isinstance(result, asyncio.Task):
            self._told.add(result)
            result.add_done_callback(self._told.discard)
        elif isinstance(result, Failure):
            log.warning("%s told to %s failed: %s", type(message).__name__, to, result.error.message)


async def _finish(to: str, message: Payload, result: Awaitable[Payload], timeout_s: float) -> Payload:
    if timeout_s:
        deadline.set(SYSTEM_CLOCK.now() + timeout_s)
    try:
        return await result or ACK
    except Exception as error:
        return _failed(to, message, error)


def _failed(to: str, message: Payload, error: Exception) -> Failure:
    if not isinstance(error, WorkflowError):
        log.error("%s failed on %s", to, type(message).__name__, exc_info=error)
    return Failure(to_info(error))
