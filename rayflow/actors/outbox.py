"""The events of one actor on their way to the event log.

Events are collected for a moment, encoded together and sent in batches, so that logging costs a run nothing but an
append. A batch is kept until the log says that it is on disk. Where it does not say so (it died, or its disk is full),
the same batch is sent again, and the log knows it by its sender and its numbers: nothing is lost, and nothing is there
twice.

What cannot be sent for long is kept up to a limit. Then the oldest events go, counted, and the log hears of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from itertools import islice

from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import WorkflowError
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch
from rayflow.policies.redaction import BUILT_IN, Redactor
from rayflow.runtime.ports import Fabric

log = logging.getLogger(__name__)

EVENT_LOG = "eventlog/0"
COLLECT_S = 0.25
RETRY_S = 0.5
ACK_S = 15.0
"""A log that has not answered by then is asked again."""
SEND_NOW = 512
"""So many events do not wait for the moment to be over."""
MAX_BATCH = 8192
MAX_BATCH_BYTES = 4 << 20
MAX_KEPT = 20_000
COMPLAIN_S = 60.0


class Outbox:
    """An `EventSink` over the fabric. `enabled`: False drops everything (monitoring.event_log: false). `limit`: events
    kept while the log takes none."""

    def __init__(
        self,
        fabric: Fabric,
        enabled: bool = True,
        *,
        limit: int = MAX_KEPT,
        source: str = "",
        redactor: Redactor = BUILT_IN,
    ) -> None:
        self._fabric = fabric
        self.enabled = enabled
        self.redactor = redactor
        """What looks secret in error messages never leaves the process."""
        self.dropped = 0
        """Events that were dropped since this process began."""
        self._limit = limit
        self._source = source
        self._origin = secrets.token_hex(8)
        self._events: deque[Event] = deque()
        self._next = 0
        self._unacknowledged: EventBatch | None = None
        self._told_of = 0
        self._problem = ""
        self._complained = -COMPLAIN_S
        self._timer: asyncio.TimerHandle | None = None
        self._sender: asyncio.Task[None] | None = None

    @property
    def buffered(self) -> int:
        """Events that are not known to be on disk."""
        return len(self._events) + (self._unacknowledged.count if self._unacknowledged else 0)

    def emit(self, event: Event) -> None:
        if not self.enabled:
            return
        if event.error_message:
            event = self.redactor.event(event)
        self._events.append(event)
        if self._sender is not None:
            if len(self._events) > self._limit:
                self._drop()
        elif len(self._events) >= SEND_NOW:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COLLECT_S, self.flush)

    def flush(self) -> None:
        """Send what was collected."""
        self._disarm()
        if self._events and self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())

    async def settle(self) -> None:
        """Wait until the log has everything on disk that was emitted before, for as long as that takes."""
        self.flush()
        while self._sender is not None:
            await asyncio.wait((self._sender,))

    def close(self) -> None:
        """Send what is left, waiting for no answer: what no log takes now is lost."""
        self._disarm()
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None
        while batch := self._batch():
            self._fabric.tell(EVENT_LOG, batch)
            self._unacknowledged = None

    async def _send(self) -> None:
        try:
            while batch := self._batch():
                try:
                    await self._fabric.ask(EVENT_LOG, batch, ACK_S)
                except WorkflowError as problem:
                    self._problem = problem.slug
                    await asyncio.sleep(RETRY_S)
                    continue
                self._unacknowledged = None
                self._tell_of_loss()
        finally:
            self._sender = None

    def _batch(self) -> EventBatch | None:
        """The batch that is not acknowledged, or else the next one."""
        if self._unacknowledged is None and self._events:
            count = min(len(self._events), MAX_BATCH)
            lines = encode_lines(list(islice(self._events, count)))
            while len(lines) > MAX_BATCH_BYTES and count > 1:
                count //= 2
                lines = encode_lines(list(islice(self._events, count)))
            for _ in range(count):
                self._events.popleft()
            self._unacknowledged = EventBatch(self._origin, self._next, count, lines, self.dropped)
            self._next += count
        return self._unacknowledged

    def _drop(self) -> None:
        self._events.popleft()
        self.dropped += 1
        now = SYSTEM_CLOCK.now()
        if now - self._complained >= COMPLAIN_S:
            self._complained = now
            log.error("the event log takes no events (%s): %d were dropped so far", self._problem, self.dropped)

    def _tell_of_loss(self) -> None:
        if lost := self.dropped - self._told_of:
            self._told_of = self.dropped
            facts = {"events": lost, "reason": self._problem}
            self._events.append(Event("eventlog.dropped", SYSTEM_CLOCK.wall_us(), self._source, data=facts))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
