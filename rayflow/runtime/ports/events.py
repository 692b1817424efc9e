"""The way of events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rayflow.events import Event
from rayflow.messages import EventBatch


class EventWriter(Protocol):
    """Where the event log actor writes. Its methods run in a thread, one at a time, and raise `StorageError`."""

    def recover(self) -> dict[str, int]:
        """What an earlier incarnation wrote: the number after the last event of each sender. Called first."""
        ...

    def append(self, batches: Sequence[EventBatch]) -> None:
        """Returns when the events are readable by queries and survive the death of this process. When it raises, none
        of them is in the log."""
        ...

    def sync(self) -> None:
        """Returns when all events survive a power cut."""
        ...

    def seal(self) -> bool:
        """Close the segment that is being appended to, where it is large or old enough. Whether there is now one for
        the upkeep to work on."""
        ...

    def close(self) -> None: ...


class EventSink(Protocol):
    """Where an actor hands its events. Never blocks."""

    def emit(self, event: Event) -> None: ...
