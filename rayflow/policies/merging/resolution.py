"""Which of two statements that contradict each other stands.

- expert_preference: that of the agent to whom the message was routed with more confidence; the better answer's where
  both were as sure.
- highest_score: that of the better answer.
- show_both: both, the later one marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayflow.policies.merging.answers import Comparison, Conflict, Place
from rayflow.policies.merging.scoring import Score


@dataclass(frozen=True, slots=True)
class Settlement:
    """`dropped`: statements that do not stand. `marked`: statement -> the agent whose words it contradicts."""

    dropped: frozenset[Place]
    marked: dict[Place, str]


def loser(conflict: Conflict, comparison: Comparison, scores: Sequence[Score], rule: str) -> Place | None:
    """The statement that gives way; None where both stand. Between equals, the earlier answer's stands."""
    if rule == "show_both":
        return None

    def weight(place: Place) -> tuple[float, float]:
        confidence, total = comparison.answers[place.answer].confidence, scores[place.answer].total
        return (confidence, total) if rule == "expert_preference" else (total, confidence)

    return conflict.first if weight(conflict.second) > weight(conflict.first) else conflict.second


def settle(
    comparison: Comparison, scores: Sequence[Score], rule: str, order: Sequence[int], fixed: int | None = None
) -> Settlement:
    """All conflicts between answers that are laid out in this order. Answer number `fixed` cannot be changed any more:
    what stands against it is said after it, and marked."""
    dropped: set[Place] = set()
    marked: dict[Place, str] = {}
    for conflict in comparison.conflicts:
        out = loser(conflict, comparison, scores, rule)
        if out is not None and out.answer != fixed:
            dropped.add(out)
            continue
        before, after = sorted((conflict.first, conflict.second), key=lambda place: order.index(place.answer))
        marked[after] = comparison.answers[before.answer].agent
    return Settlement(frozenset(dropped), marked)
