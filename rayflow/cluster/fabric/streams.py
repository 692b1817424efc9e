"""The streams of one connection, both ways: which number is which, and the frames they make."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rayflow.clock import SYSTEM_CLOCK, deadline
from rayflow.cluster.fabric.flow import StreamInlet, StreamOutlet
from rayflow.cluster.fabric.frames import Close, Credit, End, Item, Open, encode
from rayflow.cluster.fabric.mailroom import Mailroom
from rayflow.cluster.fabric.outbound import Outbound
from rayflow.context import context
from rayflow.errors import DeadlineExceeded, FrameInvalid, WorkflowError, from_info
from rayflow.messages import Payload


class Streams:
    """A `flow.Wire` over a connection. Each side numbers the streams it opens; its numbers grow."""

    def __init__(self, mailroom: Mailroom, outbound: Outbound) -> None:
        self._mailroom = mailroom
        self._outbound = outbound
        self._send = outbound.send
        self._outlets: dict[int, StreamOutlet] = {}
        self._inlets: dict[int, StreamInlet] = {}
        self._last = 0
        self._theirs = 0

    def __len__(self) -> int:
        return len(self._outlets) + len(self._inlets)

    def open(self, to: str, opening: Payload, epoch: int) -> StreamOutlet:
        self._last = number = self._last + 1
        until, left_s = _time_left()
        outlet = StreamOutlet(self, number, until)
        if left_s < 0:
            outlet.lose(DeadlineExceeded(f"no time left to open a stream to {to}", address=to))
            return outlet
        self._send(encode(Open(number, to, opening, left_s, epoch, context.get())))  # type: ignore[arg-type]
        self._outlets[number] = outlet
        return outlet

    def lose(self, error: Callable[[], WorkflowError]) -> None:
        """The connection is gone."""
        outlets, self._outlets = self._outlets, {}
        inlets, self._inlets = self._inlets, {}
        for outlet in outlets.values():
            outlet.lose(error())
        for inlet in inlets.values():
            inlet.lose(error())

    # --- flow.Wire ---

    def item(self, number: int, item: Payload) -> int:
        frame = encode(Item(number, item))  # type: ignore[arg-type]
        self._send(frame)
        return len(frame)

    def end(self, number: int) -> None:
        if self._outlets.pop(number, None) is not None:
            self._send(encode(End(number)))

    def credit(self, number: int, items: int, size: int) -> None:
        self._outbound.overtake(encode(Credit(number, items, size)))

    def close(self, number: int, error: WorkflowError) -> None:
        if self._inlets.pop(number, None) is not None:
            try:
                frame = encode(Close(number, error.to_info()))
            except FrameInvalid as invalid:
                frame = encode(Close(number, invalid.to_info()))
            self._outbound.overtake(frame)

    # --- frames of the peer ---

    def on_open(self, frame: Open) -> None:
        number = frame.id
        if number <= self._theirs:
            raise FrameInvalid(f"stream {number} was opened before")
        self._theirs = number
        inlet = self._inlets[number] = StreamInlet(self, number)
        error = self._mailroom.open(frame.to, frame.body, inlet, frame.timeout_s, frame.epoch, frame.context)
        if error is not None:
            self.close(number, error)

    def on_item(self, frame: Item, size: int) -> None:
        inlet = self._inlets.get(frame.id)
        if inlet is not None:
            inlet.arrive(frame.body, size)
        else:
            self._check_late(frame.id)

    def on_end(self, frame: End) -> None:
        inlet = self._inlets.pop(frame.id, None)
        if inlet is not None:
            inlet.end()
        else:
            self._check_late(frame.id)

    def on_credit(self, frame: Credit) -> None:
        if outlet := self._outlets.get(frame.id):
            outlet.grant(frame.items, frame.size)

    def on_close(self, frame: Close) -> None:
        if outlet := self._outlets.pop(frame.id, None):
            outlet.lose(from_info(frame.error))

    def _check_late(self, number: int) -> None:
        """What was under way when we closed the stream is fine; what belongs to none is not."""
        if number > self._theirs:
            raise FrameInvalid(f"there is no stream {number}")


def _time_left() -> tuple[float | None, float]:
    """The deadline of the handler that runs: in the loop's time, and in seconds from now (0: none)."""
    due = deadline.get()
    if due is None:
        return None, 0.0
    left_s = due - SYSTEM_CLOCK.now()
    return asyncio.get_running_loop().time() + left_s, left_s or -1.0
