"""When an alert is raised and when it is over.

A rule looks at a window of what was told lately. It is raised when its measure is beyond the threshold and enough runs
say so, and over as soon as a measure says otherwise; where nothing is measured any more, it stays as it is: silence is
no proof of health. After a rule was raised it is not raised again for its cooldown, so that a measure that swings
around its threshold is told once and not every few seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rayflow.config.sections.alerts import AlertRule

SLOT_S = 5.0
"""What is told within so many seconds is one entry: an hour's window has at most 720 of them."""


@dataclass(slots=True)
class Slot:
    """`took_ms`: of those that ended ok."""

    at: float
    runs: int = 0
    errors: int = 0
    took_ms: float = 0.0
    samples: dict[str, float] = field(default_factory=dict)
    """The last of each measure of the machine."""


@dataclass(frozen=True, slots=True)
class Change:
    """`raised`: False where it is over. `value`: the measure at that moment."""

    rule: AlertRule
    raised: bool
    value: float


@dataclass(slots=True)
class Standing:
    """How a rule stands. `value`: its measure at the last look, None where there was nothing to measure."""

    rule: AlertRule
    firing: bool = False
    raised_at: float | None = None
    value: float | None = None


class Alerting:
    """`now` is of one clock that never goes back, and begins at the first call."""

    def __init__(self, rules: Iterable[AlertRule]) -> None:
        self.standings = [Standing(rule) for rule in rules]
        self._slots: deque[Slot] = deque()
        self._longest_s = max((standing.rule.window_s for standing in self.standings), default=0.0)
        self._begun: float | None = None

    def ended(self, now: float, runs: int, errors: int, took_ms: float) -> None:
        """So many runs have ended lately, with so many errors; those that ended ok took so long together."""
        slot = self._slot(now)
        slot.runs += runs
        slot.errors += errors
        slot.took_ms += took_ms

    def sampled(self, now: float, metric: str, value: float) -> None:
        """What a measure of the machine is now."""
        self._slot(now).samples[metric] = value

    def resume(self, now: float, firing: Iterable[str]) -> None:
        """Rules (by `title`) that were raised before this judge began."""
        names = set(firing)
        for standing in self.standings:
            if title(standing.rule) in names:
                standing.firing, standing.raised_at = True, now

    def judge(self, now: float) -> list[Change]:
        """Look at all rules; what has changed since the last look."""
        self._slot(now)
        while self._slots[0].at + SLOT_S < now - self._longest_s:
            self._slots.popleft()
        changes = (self._look(standing, now) for standing in self.standings)
        return [change for change in changes if change is not None]

    def _look(self, standing: Standing, now: float) -> Change | None:
        rule = standing.rule
        slots = [slot for slot in self._slots if slot.at + SLOT_S > now - rule.window_s]
        runs = sum(slot.runs for slot in slots)
        value = standing.value = self._measure(rule, slots, runs, now)
        if value is None:
            return None
        beyond = value > rule.threshold if rule.direction == "above" else value < rule.threshold
        if standing.firing:
            if beyond:
                return None
            standing.firing = False
            return Change(rule, False, value)
        if not beyond or (rule.metric in ("response_time", "error_rate") and runs < rule.min_count):
            return None
        if standing.raised_at is not None and now - standing.raised_at < rule.cooldown_s:
            return None
        standing.firing, standing.raised_at = True, now
        return Change(rule, True, value)

    def _measure(self, rule: AlertRule, slots: Sequence[Slot], runs: int, now: float) -> float | None:
        errors = sum(slot.errors for slot in slots)
        match rule.metric:
            case "response_time":
                return sum(slot.took_ms for slot in slots) / (runs - errors) if runs > errors else None
            case "error_rate":
                return errors / runs if runs else None
            case "throughput":
                # Before a whole window has passed, few runs say nothing about their rate.
                begun = now if self._begun is None else self._begun
                return runs / rule.window_s if now - begun >= rule.window_s else None
            case _:
                found = [slot.samples[rule.metric] for slot in slots if rule.metric in slot.samples]
                return sum(found) / len(found) if found else None

    def _slot(self, now: float) -> Slot:
        if self._begun is None:
            self._begun = now
        if not self._slots or now >= self._slots[-1].at + SLOT_S:
            self._slots.append(Slot(now))
        return self._slots[-1]


def title(rule: AlertRule) -> str:
    """The rule in words: no two of a configuration have the same."""
    return f"{rule.metric} {rule.direction} {rule.threshold:g} over {rule.window_s:g} s"
