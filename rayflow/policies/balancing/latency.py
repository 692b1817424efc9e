"""What can be known of the time a replica takes to the first token.

That is what a client waits for in front of an empty screen, and it contains the replica's queue; the time to the last
token says more about the length of the answer. The router learns it when the answer is complete. From an answer that
was not streamed, and from one that is still out, it is inferred: as the same part of the whole that it is in the
streamed answers of this pool. In a pool without streamed answers the part is one, and whole answers are compared.
"""

from __future__ import annotations

from math import exp

from rayflow.policies.balancing.base import Outcome

ALIKE = 2.5
"""Service times differ by chance, and a strategy that believed every difference would send calls to the luckiest
replica instead of the least busy one. What is slower by no more than this factor is not slower."""
SMOOTHING = 0.05
"""Weight of the last streamed answer in the average of them."""


class FirstToken:
    """One pool's scale."""

    __slots__ = ("_durations_s", "_firsts_s", "part")

    def __init__(self) -> None:
        self._firsts_s = 0.0
        self._durations_s = 0.0
        self.part = 1.0
        """The time to the first token as a part of the whole."""

    def of(self, outcome: Outcome) -> float:
        """Seconds to the first token of this call."""
        if outcome.first_token_s is None:
            return outcome.duration_s * self.part
        if not self._durations_s:
            self._firsts_s, self._durations_s = outcome.first_token_s, outcome.duration_s
        self._firsts_s += SMOOTHING * (outcome.first_token_s - self._firsts_s)
        self._durations_s += SMOOTHING * (outcome.duration_s - self._durations_s)
        if self._durations_s > 0:
            self.part = min(1.0, self._firsts_s / self._durations_s)
        return outcome.first_token_s


class PeakEwma:
    """A moving average that rises at once and falls slowly: one slow answer is news, one fast answer is none.

    Source: Finagle, `PeakEwma`.
    """

    __slots__ = ("at", "seconds")

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self.at = now

    def observe(self, seconds: float, now: float, decay_s: float) -> None:
        kept = exp((self.at - now) / decay_s)
        self.seconds = seconds if seconds > self.seconds else self.seconds * kept + seconds * (1.0 - kept)
        self.at = now

    def faded(self, now: float, decay_s: float) -> float:
        """What is left of it when nothing was observed since."""
        return self.seconds * exp((self.at - now) / decay_s)
