"""A rate limit that keeps one timestamp per key: the generic cell rate algorithm.

The timestamp is the time at which the key, had it kept to its rate exactly, would be where it is now. A request may
come when that is at most a burst's worth ahead. What does not fit is told how long to wait; nothing sleeps, nothing
polls, and a key whose timestamp has passed is the same as one that was never seen.
Source: ITU-T I.371 (1993), annex A.1, virtual scheduling.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`requests` in `window_s` in the long run, and up to `burst` at once."""

    requests: float
    window_s: float
    burst: float

    @property
    def interval_s(self) -> float:
        """Between two requests at an even pace."""
        return self.window_s / self.requests

    def wait_s(self, timestamp: float, now: float) -> float:
        """Seconds until a request would be let through; 0 where it is now."""
        ahead_s = max(timestamp - now, 0.0)  # first the difference: adding to a large `now` would round it
        return max(0.0, ahead_s + (1.0 - self.burst) * self.interval_s)

    def taken(self, timestamp: float, now: float) -> float:
        """The timestamp after a request that was let through."""
        return max(timestamp, now) + self.interval_s

    def divided(self, by: int) -> Rate:
        """The part of one of several who each keep count for themselves."""
        return Rate(self.requests / by, self.window_s, max(self.burst / by, 1.0))
