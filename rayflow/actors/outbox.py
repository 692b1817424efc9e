"""The events of one actor on their way to the event log.

Events are collected for a moment and told in batches, so that logging costs a run nothing but an append. While there
is no event log (it is being restarted), they are kept, up to a limit.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rayflow.events import Event
from rayflow.messages import EventBatch
from rayflow.runtime.ports import Fabric

EVENT_LOG = "eventlog/0"
COLLECT_S = 0.1
MAX_BATCH = 512
MAX_KEPT = 20_000


class Outbox:
    """An `EventSink` over the fabric. `enabled`: False drops everything (monitoring.event_log: false)."""

    def __init__(self, fabric: Fabric, enabled: bool = True) -> None:
        self._fabric = fabric
        self.enabled = enabled
        self._events: deque[Event] = deque(maxlen=MAX_KEPT)
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, event: Event) -> None:
        if not self.enabled:
            return
        self._events.append(event)
        if len(self._events) >= MAX_BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COLLECT_S, self.flush)

    def flush(self) -> None:
        """Tell the log what was collected, if there is a log."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._events:
            return
        if self._fabric.directory.endpoint(EVENT_LOG) is None:
            self._timer = asyncio.get_running_loop().call_later(COLLECT_S * 5, self.flush)
            return
        self._fabric.tell(EVENT_LOG, EventBatch(list(self._events)))
        self._events.clear()

    def close(self) -> None:
        """Last flush; what no log takes now is lost."""
        if self._events and self._fabric.directory.endpoint(EVENT_LOG) is not None:
            self._fabric.tell(EVENT_LOG, EventBatch(list(self._events)))
        self._events.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
