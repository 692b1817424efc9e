"""How fast a job goes: what it may have in flight, use in a minute, and spend.

The window shrinks when the system says that it is full, or when runs wait in it for more than half as long as they are
worked on, and grows again row by row (additive increase, multiplicative decrease: D.-M. Chiu and R. Jain, "Analysis of
the Increase and Decrease Algorithms for Congestion Avoidance", 1989). So whoever comes finds a short queue, and all
places are in use all the same: with half as many waiting as are worked on, a window that shrinks by three tenths still
holds as many as there are places. A job takes what others leave without anybody telling it how much that is.

What a row will use is not known before it is done: as much as rows have used so far is reserved, and corrected
afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

SHRINK = 0.7
SHRINK_PAUSE_S = 1.0
"""Refusals within this time are one."""
MOST_QUEUED = 0.5
"""How long runs may wait, as a part of the time for which they are worked on."""
LEAST_QUEUED_S = 0.02
"""A wait that is no queue: passing a run on takes some of it."""
WEIGHT = 0.05
"""Of the last run in the averages of both times."""
BURST_S = 1.0
"""What was not used of this time may be used at once."""


class Window:
    """How many rows may be in flight: at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(most)
        self._shrunk_at = float("-inf")
        self._queued_s = 0.0
        self._served_s = 0.0

    @property
    def size(self) -> int:
        return int(self._size)

    def limit(self, most: int) -> None:
        """From now on at most so many; as much of that as before is used."""
        self._size = max(1.0, self._size * most / self._most)
        self._most = most

    def refused(self, now: float) -> None:
        """The system is full."""
        if now - self._shrunk_at >= SHRINK_PAUSE_S:
            self._size = max(1.0, self._size * SHRINK)
            self._shrunk_at = now

    def ran(self, now: float, queued_s: float, served_s: float) -> None:
        """A run was answered that waited for so long, and was worked on for so long."""
        self._queued_s += WEIGHT * (queued_s - self._queued_s)
        self._served_s += WEIGHT * (served_s - self._served_s)
        if self._queued_s > LEAST_QUEUED_S + MOST_QUEUED * self._served_s:
            self.refused(now)

    def done(self) -> None:
        """A row is done."""
        self._size = min(float(self._most), self._size + 1.0 / self._size)


class Rate:
    """`per_s` of something in the long run, and at most `BURST_S` worth of it, or one, at once. `now` is monotonic
    seconds. As `policies.gcra`, for amounts that are known only afterwards."""

    def __init__(self, per_s: float) -> None:
        self.limit(per_s)
        self._at = 0.0
        """When all that was used would have been used up at an even pace."""

    def limit(self, per_s: float) -> None:
        """From now on so many."""
        self._per_s = per_s
        self._burst_s = max(BURST_S, 1.0 / per_s)

    def wait_s(self, now: float) -> float:
        """Seconds until more may be used; 0 where it may be now."""
        return max(0.0, self._at - now - self._burst_s + 1.0 / self._per_s)

    def use(self, now: float, amount: float = 1.0) -> None:
        self._at = max(self._at, now) + amount / self._per_s

    def correct(self, amount: float) -> None:
        """So much more was used, or less where it is negative."""
        self._at += amount / self._per_s


@dataclass(slots=True)
class Mean:
    """What rows have used so far, on average; `value` before there is any."""

    value: float
    count: int = 0

    def add(self, used: float) -> None:
        self.count += 1
        self.value += (used - self.value) / self.count


class Purse:
    """What a job may spend in all, of which `spent` is gone. A row reserves what rows cost on average; `guess`: what
    the first ones may cost."""

    def __init__(self, limit: float, spent: float, guess: float) -> None:
        self.limit = limit
        self.spent = spent
        self._reserved = 0.0
        self._mean = Mean(guess)

    def reserve(self) -> float | None:
        """What was set aside for one row, or None where that is more than there is."""
        if self.spent + self._reserved + self._mean.value > self.limit or self.spent >= self.limit:
            return None
        self._reserved += self._mean.value
        return self._mean.value

    def expect(self, cost: float) -> bool:
        """Others say that a row costs so much. Whether that is news: not for one who knows it better."""
        if self._mean.count or self._mean.value == cost:
            return False
        self._mean.value = cost
        return True

    def settle(self, reserved: float, cost: float) -> None:
        """The row is done."""
        self._reserved -= reserved
        self.spent += cost
        self._mean.add(cost)

    def release(self, reserved: float) -> None:
        """The row was not run."""
        self._reserved -= reserved
