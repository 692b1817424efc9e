"""Holt's double exponential smoothing: a level and its trend, so that a value can be told ahead of time.

C. C. Holt, Forecasting seasonals and trends by exponentially weighted moving averages (1957). Here with real time in
place of numbered steps: what a constant weighs decays with a time constant, whatever the distance of observations.
"""

from __future__ import annotations

from math import exp


class Holt:
    """`level_s`, `trend_s`: time constants. The longer, the calmer and the later."""

    def __init__(self, level_s: float, trend_s: float) -> None:
        self._level_s = level_s
        self._trend_s = trend_s
        self._last: float | None = None
        self.level = 0.0
        self.trend = 0.0
        """Change a second."""

    def add(self, value: float, now: float) -> None:
        if self._last is None:
            self._last, self.level = now, value
            return
        span_s = now - self._last
        if span_s <= 0:
            return
        self._last = now
        before = self.level
        expected = before + self.trend * span_s
        self.level = expected + (value - expected) * (1 - exp(-span_s / self._level_s))
        self.trend += ((self.level - before) / span_s - self.trend) * (1 - exp(-span_s / self._trend_s))

    def ahead(self, seconds: float) -> float:
        """What the value is expected to be then; never below 0."""
        return max(0.0, self.level + self.trend * seconds)
