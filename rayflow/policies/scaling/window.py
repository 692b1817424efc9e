"""The mean of a level over the last seconds, weighted by how long it stood."""

from __future__ import annotations

from collections import deque


class Window:
    """`add` says what the level is now; it stood so since the last `add`. Constant time: sums are kept, and what is
    older than `length_s` leaves them. Until a whole window has passed, the mean is over what there is."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._spans: deque[tuple[float, float, float]] = deque()
        self._last: float | None = None
        self._time_s = 0.0
        self._area = 0.0

    def add(self, level: float, now: float) -> float:
        """The mean after this observation. The first one counts alone."""
        if self._last is None:
            self._last = now
            return level
        span_s = now - self._last
        self._last = now
        if span_s > 0:
            self._spans.append((now, span_s, level))
            self._time_s += span_s
            self._area += span_s * level
        while self._spans and self._spans[0][0] <= now - self._length_s:
            _, gone_s, gone = self._spans.popleft()
            self._time_s -= gone_s
            self._area -= gone_s * gone
        if not self._spans:  # nothing was seen for a whole window
            self._time_s = self._area = 0.0
            return level
        return self._area / self._time_s
