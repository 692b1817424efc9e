"""A stream within one process: both ends on one loop, no bytes, the same window."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

from rayflow.clock import SYSTEM_CLOCK, deadline
from rayflow.cluster.fabric.flow import StreamInlet, StreamOutlet
from rayflow.cluster.fabric.frames import Item, encode
from rayflow.cluster.fabric.mailroom import Mailroom
from rayflow.context import Context as Ambient
from rayflow.context import context
from rayflow.errors import DeadlineExceeded, WorkflowError
from rayflow.messages import Payload


class Pipe:
    """A `flow.Wire` between two ends. What one end says reaches the other in a later turn of the loop, as over a
    connection, and in order."""

    def __init__(self) -> None:
        due = deadline.get()
        self.left_s = due - SYSTEM_CLOCK.now() if due is not None else 0.0
        self._loop = asyncio.get_running_loop()
        self._apart = Context()
        """The ends run nothing in the context of whoever is at the other."""
        self.outlet = StreamOutlet(self, 0, self._loop.time() + self.left_s if due is not None else None)
        self.inlet = StreamInlet(self, 0)

    def open(self, mailroom: Mailroom, to: str, opening: Payload, epoch: int) -> None:
        if self.left_s < 0:
            self.outlet.lose(DeadlineExceeded(f"no time left to open a stream to {to}", address=to))
        else:
            self._later(self._open, mailroom, to, opening, epoch, context.get())

    def lose(self, error: WorkflowError) -> None:
        """Neither end will hear from the other again."""
        self.outlet.lose(error)
        self.inlet.lose(error)

    def item(self, number: int, item: Payload) -> int:
        size = len(encode(Item(number, item)))  # type: ignore[arg-type]
        self._later(self.inlet.arrive, item, size)
        return size

    def end(self, number: int) -> None:
        self._later(self.inlet.end)

    def credit(self, number: int, items: int, size: int) -> None:
        self._later(self.outlet.grant, items, size)

    def close(self, number: int, error: WorkflowError) -> None:
        self._later(self.outlet.lose, error)

    def _open(self, mailroom: Mailroom, to: str, opening: Payload, epoch: int, ambient: Ambient | None) -> None:
        error = mailroom.open(to, opening, self.inlet, self.left_s, epoch, ambient)
        if error is not None:
            self.lose(error)

    def _later(self, call: Callable[..., None], *args: object) -> None:
        self._loop.call_soon(call, *args, context=self._apart)
