"""The sessions a router currently owns: who writes now, who waits, and what a model should see of the past.

A session is a single-writer mailbox: while one run of a session is under way, the next ones wait in order. Between runs
the window of recent messages stays here, so that a turn need not read the store again; idle windows are dropped,
least recently used first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from rayflow.chat import Message
from rayflow.policies.context import Known


@dataclass(slots=True)
class SessionSlot:
    """`window` is None until the store has been read; `last_seq` is the number of the newest turn known here."""

    writer: str | None = None
    waiting: deque[str] = field(default_factory=deque)
    window: deque[Message] | None = None
    last_seq: int = -1
    known: Known | None = None
    """What enrichment keeps of the session's context."""

    def remember(self, messages: list[Message], last_seq: int) -> None:
        if self.window is not None:
            self.window.extend(messages)
        self.last_seq = last_seq

    def forget(self) -> None:
        """What is known may be wrong (somebody else wrote): read the store again."""
        self.window = None
        self.last_seq = -1
        self.known = None


class SessionTable:
    """`cached`: idle sessions whose window is kept. `max_waiting`: runs that may wait for one session."""

    def __init__(self, cached: int, max_waiting: int = 64) -> None:
        self._cached = cached
        self._max_waiting = max_waiting
        self._slots: dict[tuple[str, str], SessionSlot] = {}
        self._idle: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.evicted = 0
        """Idle sessions that made room for others."""

    def enter(self, key: tuple[str, str], run_id: str) -> SessionSlot | None:
        """Start writing, or join the line. Returns the slot when the run may go on at once, None when it must wait.

        Raises OverflowError when the line is full.
        """
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = SessionSlot()
        elif slot.writer is not None:
            if len(slot.waiting) >= self._max_waiting:
                raise OverflowError(f"{len(slot.waiting)} runs already wait for this session")
            slot.waiting.append(run_id)
            return None
        else:
            del self._idle[key]
        slot.writer = run_id
        return slot

    def line(self, key: tuple[str, str]) -> list[str]:
        """The run that writes, and those that wait after it."""
        slot = self._slots.get(key)
        return [] if slot is None or slot.writer is None else [slot.writer, *slot.waiting]

    def slot(self, key: tuple[str, str]) -> SessionSlot:
        return self._slots[key]

    def abandon(self, key: tuple[str, str], run_id: str) -> None:
        """A waiting run gave up."""
        slot = self._slots.get(key)
        if slot is not None and run_id in slot.waiting:
            slot.waiting.remove(run_id)

    def leave(self, key: tuple[str, str]) -> str | None:
        """The writer is done. Returns the run that may write next."""
        slot = self._slots[key]
        slot.writer = slot.waiting.popleft() if slot.waiting else None
        if slot.writer is not None:
            return slot.writer
        self._idle[key] = None
        while len(self._idle) > self._cached:
            oldest, _ = self._idle.popitem(last=False)
            del self._slots[oldest]
            self.evicted += 1
        return None

    def drop(self, key: tuple[str, str]) -> None:
        """The session was deleted: forget what is known of it."""
        if key in self._slots:
            self._slots[key].forget()

    def __len__(self) -> int:
        return len(self._slots)

    def validate(self) -> None:
        """Invariants, for tests."""
        assert self._idle.keys() == {key for key, slot in self._slots.items() if slot.writer is None}
        assert len(self._idle) <= self._cached
        assert all(slot.writer is not None or not slot.waiting for slot in self._slots.values())
