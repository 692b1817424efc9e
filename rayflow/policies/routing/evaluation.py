"""What routing is worth on labelled messages: how often it is right, what it lets through, what its confidence means.

Pure arithmetic on what was decided. `Outcome` is one message; `Report` puts many together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rayflow.policies.routing.decision import Decision

BINS = 15
"""Of equal width, as in Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017)."""
NOBODY = "(nobody)"
"""In the confusion table: the message belongs to nobody, or was taken for nobody's."""
OUT_OF_SCOPE = frozenset({"default", "declined"})
"""Strategies that a decision carries when no agent claimed the message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`right`: whose the message is; empty where it is out of scope. `surest`: the agent with the highest confidence,
    whether or not it was high enough. `taken`: who was asked; empty where the message was taken for nobody's."""

    right: frozenset[str]
    surest: str
    confidence: float
    taken: tuple[str, ...]

    @classmethod
    def of(cls, right: Iterable[str], decision: Decision, unbounded: Decision) -> Outcome:
        """`unbounded`: what would have been decided with no threshold."""
        taken = () if decision.strategy in OUT_OF_SCOPE else decision.agents
        return cls(frozenset(right), next(iter(unbounded.agents), ""), unbounded.confidence, taken)

    @property
    def hit(self) -> bool:
        """Whether the surest agent is one whose message it is."""
        return self.surest in self.right


@dataclass(frozen=True, slots=True)
class Report:
    """`accuracy_in_scope`: share of the messages that belong to an agent which reached one of their agents first; one
    that was taken for nobody's counts as wrong. `accuracy_without_threshold`: the same if none were. None: there were
    no such messages."""

    rows: int
    in_scope: int
    out_of_scope: int
    accuracy_in_scope: float | None
    accuracy_without_threshold: float | None
    out_of_scope_recall: float | None
    """Share of the messages that belong to nobody which were taken for nobody's."""
    expected_calibration_error: float
    """Mean distance, over bins of confidence, between the surest agent's confidence and how often it was right, over
    all messages; where a message is nobody's, no agent is right."""
    precision: float
    """Of all agents asked, those whose message it was (micro-averaged)."""
    recall: float
    """Of all agents whose messages they were, those asked (micro-averaged)."""
    exact: float
    """Share of messages that exactly the right agents were asked for."""
    confusion: dict[str, dict[str, int]]
    """Right agent -> agent that was asked first -> messages. A message of several agents counts once, under the one
    that was asked where it is among them."""


def report(outcomes: Sequence[Outcome]) -> Report:
    """Raises ValueError where there is nothing to report on."""
    if not outcomes:
        raise ValueError("no labelled messages")
    inside = [outcome for outcome in outcomes if outcome.right]
    outside = [outcome for outcome in outcomes if not outcome.right]
    asked = sum(len(outcome.taken) for outcome in outcomes)
    wanted = sum(len(outcome.right) for outcome in outcomes)
    found = sum(len(outcome.right.intersection(outcome.taken)) for outcome in outcomes)
    return Report(
        rows=len(outcomes),
        in_scope=len(inside),
        out_of_scope=len(outside),
        accuracy_in_scope=_share(bool(outcome.taken) and outcome.taken[0] in outcome.right for outcome in inside),
        accuracy_without_threshold=_share(outcome.hit for outcome in inside),
        out_of_scope_recall=_share(not outcome.taken for outcome in outside),
        expected_calibration_error=calibration_error([(outcome.confidence, outcome.hit) for outcome in outcomes]),
        precision=found / asked if asked else 0.0,
        recall=found / wanted if wanted else 0.0,
        exact=sum(outcome.right == frozenset(outcome.taken) for outcome in outcomes) / len(outcomes),
        confusion=_confusion(outcomes),
    )


def calibration_error(judged: Sequence[tuple[float, bool]], bins: int = BINS) -> float:
    """Expected calibration error of pairs of a confidence (0 to 1) and whether it was right."""
    sums = [0.0] * bins
    for confidence, right in judged:
        sums[min(int(confidence * bins), bins - 1)] += confidence - right
    return sum(map(abs, sums)) / len(judged)


def _share(cases: Iterable[bool]) -> float | None:
    seen = list(cases)
    return sum(seen) / len(seen) if seen else None


def _confusion(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    counts: Counter[tuple[str, str]] = Counter()
    for outcome in outcomes:
        first = outcome.taken[0] if outcome.taken else NOBODY
        right = first if first in outcome.right else min(outcome.right, default=NOBODY)
        counts[right, first] += 1
    table: dict[str, dict[str, int]] = {}
    for (right, first), number in sorted(counts.items()):
        table.setdefault(right, {})[first] = number
    return table
