"""The handlers of one process: which function takes which message, and how a call of it is carried out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Mapping
from typing import NamedTuple

from rayflow.clock import SYSTEM_CLOCK, deadline
from rayflow.context import Context, context
from rayflow.errors import Cancelled, UnknownAddress, WorkflowError, to_info
from rayflow.messages import Ack, Failure, Payload
from rayflow.runtime.ports import Handler, Inlet, StreamHandler

log = logging.getLogger(__name__)

ACK = Ack()


class Binding(NamedTuple):
    handlers: Mapping[type[Payload], Handler]
    streams: Mapping[type[Payload], StreamHandler]
    epoch: int


class Mailroom:
    def __init__(self) -> None:
        self._bound: dict[str, Binding] = {}
        self._told: set[asyncio.Task[Payload]] = set()

    def bind(
        self,
        address: str,
        handlers: Mapping[type[Payload], Handler],
        streams: Mapping[type[Payload], StreamHandler] | None = None,
        epoch: int = 0,
    ) -> None:
        self._bound[address] = Binding(handlers, streams or {}, epoch)

    def unbind(self, address: str) -> None:
        self._bound.pop(address, None)

    def __contains__(self, address: str) -> bool:
        return address in self._bound

    def call(
        self, to: str, message: Payload, timeout_s: float, epoch: int = 0, ambient: Context | None = None
    ) -> Payload | asyncio.Task[Payload]:
        """Run the handler. A plain function's reply is returned; a coroutine becomes a task that ends in the reply.

        Never raises: what goes wrong is a `Failure`. `epoch`: the incarnation that is meant; 0: any. `ambient`: what
        the message says of its work; None leaves that of the caller, if any.
        """
        bound = self._bound.get(to)
        handler = bound.handlers.get(type(message)) if bound else None
        if bound is None or handler is None or (epoch and bound.epoch and epoch != bound.epoch):
            return Failure(_refusal(to, bound, message, epoch).to_info())
        token = context.set(ambient) if ambient is not None else None
        try:
            result = handler(message)
            if result is None or isinstance(result, Payload):
                return result or ACK
            task = asyncio.get_running_loop().create_task(_finish(to, message, result, timeout_s))
        except Exception as error:
            return _failed(to, message, error)
        finally:
            if token is not None:
                context.reset(token)
        if isinstance(result, Coroutine):
            # Cancelled before its first step, it would never be awaited.
            task.add_done_callback(lambda _: result.close())
        return task

    def tell(self, to: str, message: Payload, epoch: int = 0, ambient: Context | None = None) -> None:
        """Run the handler and drop its reply. Nobody hears of a failure, so it is logged."""
        result = self.call(to, message, 0.0, epoch, ambient)
        if isinstance(result, asyncio.Task):
            self._told.add(result)
            result.add_done_callback(self._told.discard)
        elif isinstance(result, Failure):
            log.warning("%s told to %s failed: %s", type(message).__name__, to, result.error.message)

    def open(
        self,
        to: str,
        opening: Payload,
        inlet: Inlet,
        timeout_s: float = 0.0,
        epoch: int = 0,
        ambient: Context | None = None,
    ) -> WorkflowError | None:
        """Hand the reading end of a stream to its handler. Returns why it was refused, if it was."""
        bound = self._bound.get(to)
        handler = bound.streams.get(type(opening)) if bound else None
        if bound is None or handler is None or (epoch and bound.epoch and epoch != bound.epoch):
            return _refusal(to, bound, opening, epoch)
        token = context.set(ambient) if ambient is not None else None
        until = deadline.set(SYSTEM_CLOCK.now() + timeout_s if timeout_s else None)
        try:
            handler(opening, inlet)
        except WorkflowError as error:
            return error
        except Exception as error:
            log.error("%s failed on a stream of %s", to, type(opening).__name__, exc_info=error)
            info = to_info(error)
            return WorkflowError(info.message, **info.details)
        finally:
            deadline.reset(until)
            if token is not None:
                context.reset(token)
        return None


async def _finish(to: str, message: Payload, result: Awaitable[Payload], timeout_s: float) -> Payload:
    deadline.set(SYSTEM_CLOCK.now() + timeout_s if timeout_s else None)
    try:
        return await result or ACK
    except Exception as error:
        return _failed(to, message, error)


def _refusal(to: str, bound: Binding | None, message: Payload, epoch: int) -> UnknownAddress:
    """Nothing was done, so whoever sent it may try again elsewhere."""
    if bound is None:
        return UnknownAddress(f"no actor at {to} in this process", address=to)
    if epoch and bound.epoch and epoch != bound.epoch:
        what = f"{to} is incarnation {bound.epoch} here, and {epoch} was meant"
        return UnknownAddress(what, address=to, stale=True)
    return UnknownAddress(f"{to} does not take {type(message).__name__}", address=to)


def _failed(to: str, message: Payload, error: Exception) -> Failure:
    if not isinstance(error, WorkflowError):
        log.error("%s failed on %s", to, type(message).__name__, exc_info=error)
    return Failure(to_info(error))


def gave_up() -> Cancelled:
    """What an asker hears when the handler cancelled itself."""
    return Cancelled("the work was cancelled where it was done")
