"""Runs that have ended, kept for a while for whoever was cut off and wants the rest of the stream."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_RUNS = 1024
MAX_CHARS = 8 << 20
MAX_AGE_S = 300.0


class _Kept(NamedTuple, Generic[T]):
    what: T
    chars: int
    until: float


class Recordings(Generic[T]):
    """At most so many runs and characters, none longer than `max_age_s`; the oldest go first. `now`: monotonic
    seconds."""

    def __init__(self, max_runs: int = MAX_RUNS, max_chars: int = MAX_CHARS, max_age_s: float = MAX_AGE_S) -> None:
        self._max_runs = max_runs
        self._max_chars = max_chars
        self._max_age_s = max_age_s
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()
        self._chars = 0

    def keep(self, run_id: str, what: T, chars: int, now: float) -> None:
        self._drop(run_id)
        self._kept[run_id] = _Kept(what, chars, now + self._max_age_s)
        self._chars += chars
        while self._kept and (len(self._kept) > self._max_runs or self._chars > self._max_chars):
            self._drop(next(iter(self._kept)))
        self._expire(now)

    def get(self, run_id: str, now: float) -> T | None:
        self._expire(now)
        kept = self._kept.get(run_id)
        return None if kept is None else kept.what

    def __len__(self) -> int:
        return len(self._kept)

    def _expire(self, now: float) -> None:
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._drop(next(iter(self._kept)))

    def _drop(self, run_id: str) -> None:
        if kept := self._kept.pop(run_id, None):
            self._chars -= kept.chars
