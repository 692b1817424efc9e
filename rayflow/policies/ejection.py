"""Which replicas are left alone for a while because they fail.

A replica that fails at once always looks idle, and would draw every call. So a few failures in a row, or a share of
failures within a window, take it out of rotation. When its time is up, one single call tries it (half-open): success
brings it back, failure keeps it out for twice as long. Each `base_s` of good behaviour afterwards halves the next time
out again. Where much of a pool fails, the cause is rarely in the replicas: never more than `max_share` of them are out,
and never the last one.
Source: Envoy, outlier detection; M. Nygard, "Release It!" (circuit breaker, half-open).
"""

from __future__ import annotations

from collections.abc import Collection
from math import ceil, inf
from typing import Literal, NamedTuple

from rayflow.config.schema import EjectionConfig
from rayflow.policies.budget import Window

Change = Literal["out", "back"]


class Ejection(NamedTuple):
    """A replica is left alone for `out_s` seconds; it is its `times`-th time out that is not forgiven. `reason`: what
    it did, in a word."""

    replica: str
    reason: Literal["failures", "rate", "probe"]
    out_s: float
    times: int


class Record:
    """What is known of one replica."""

    __slots__ = ("back_at", "calls", "failures", "in_a_row", "out_at", "probe", "times", "until")

    def __init__(self, window_s: int, times: int = 0, back_at: float = 0.0) -> None:
        self.calls = Window(window_s)
        self.failures = Window(window_s)
        self.in_a_row = 0
        self.times = times
        """Ejections that have not been forgiven yet, as of `back_at`."""
        self.back_at = back_at
        self.out_at = self.until = 0.0
        """While it is out: since when, and when it may be tried."""
        self.probe = ""
        """Ticket of the one call that tries it."""


class Ejector:
    """One pool's. All times are monotonic seconds of the caller."""

    def __init__(self, config: EjectionConfig) -> None:
        self._config = config
        self._window_s = max(1, ceil(config.window_s))
        self._records: dict[str, Record] = {}
        self.out: dict[str, Record] = {}
        """The ejected replicas, in the order of their ejection."""
        self._answered_at = -inf
        """When a replica in rotation last answered."""
        self._ejection: Ejection | None = None

    def members(self, replicas: Collection[str], now: float) -> None:
        """The pool consists of these now. Where it has become too small, those that were out longest come back."""
        for replica in self._records.keys() - set(replicas):
            del self._records[replica]
            self.out.pop(replica, None)
        for replica in replicas:
            if replica not in self._records:
                self._records[replica] = Record(self._window_s)
        for replica in list(self.out)[: max(0, len(self.out) - self._most())]:
            self._restore(replica, now)

    def due(self, now: float) -> list[str]:
        """Ejected replicas that a single call should try now."""
        return [replica for replica, record in self.out.items() if not record.probe and self._may_be_tried(record, now)]

    def probing(self, replica: str, ticket: str) -> None:
        """This call tries a replica that was due."""
        self.out[replica].probe = ticket

    def ejection(self) -> Ejection | None:
        """The one that the last call led to; told once."""
        ejection, self._ejection = self._ejection, None
        return ejection

    def ended(self, replica: str, ticket: str, ok: bool | None, now: float) -> Change | None:
        """A call ended; `ok` is None where it was cancelled. Returns what that changes for its replica.

        Of an ejected replica only the probe counts: calls that were there before say nothing new.
        """
        record = self._records.get(replica)
        if record is None:
            return None
        if replica in self.out:
            return self._tried(replica, record, ok, now) if record.probe == ticket else None
        if ok is None:
            return None
        record.calls.add(now)
        if ok:
            record.in_a_row = 0
            self._answered_at = now
            return None
        record.in_a_row += 1
        record.failures.add(now)
        if not self._failing(record) or len(self.out) >= self._most():
            return None
        record.times = max(0, record.times - int((now - record.back_at) / self._config.base_s))
        self.out[replica] = record
        in_a_row = record.in_a_row >= self._config.consecutive_failures
        self._send_out(replica, record, "failures" if in_a_row else "rate", now)
        return "out"

    def _tried(self, replica: str, record: Record, ok: bool | None, now: float) -> Change | None:
        record.probe = ""
        if ok:
            self._restore(replica, now)
            return "back"
        if ok is False:
            self._send_out(replica, record, "probe", now)
        return None

    def _may_be_tried(self, record: Record, now: float) -> bool:
        """Its time is up, and another replica has answered meanwhile. Where none does, it takes twice as long: the few
        calls that a circuit breaker still lets through must not be spent on who is known to fail."""
        wait_s = record.until - record.out_at
        return now >= record.until + (0.0 if self._answered_at >= record.out_at else wait_s)

    def _failing(self, record: Record) -> bool:
        calls, failures = record.calls.total, record.failures.total
        return record.in_a_row >= self._config.consecutive_failures or (
            calls >= self._config.min_calls and failures >= self._config.failure_rate * calls
        )

    def _send_out(self, replica: str, record: Record, why: Literal["failures", "rate", "probe"], now: float) -> None:
        record.out_at = now
        record.until = now + min(self._config.base_s * 2.0 ** min(record.times, 64), self._config.max_s)
        record.times += 1
        self._ejection = Ejection(replica, why, record.until - now, record.times)

    def _restore(self, replica: str, now: float) -> None:
        """Back with a clean slate, but for how often it was out."""
        self._records[replica] = Record(self._window_s, self.out.pop(replica).times, now)

    def _most(self) -> int:
        """How many may be out at a time."""
        return max(0, min(int(len(self._records) * self._config.max_share), len(self._records) - 1))
