"""What makes an answer good: four scores, each in [0, 1].

- relevance: share of the question's content words that the answer mentions; 1 for any answer where it has none.
- completeness: 1 - 2^(-w/40) for w words in statements that differ: 40 words count half, length alone never wins, and
  saying it twice counts once.
- accuracy: how far the other agents bear the answer out (`Comparison.agreement`), or what the judge model says of it.
  With nobody to compare it is 0.5.
- clarity: 1 for sentences of up to 25 words on average, falling to 0 at 75; code and tables are no sentences.

The total is their weighted mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rayflow.config.schema import ScoreWeights
from rayflow.policies.merging.answers import Comparison, Place
from rayflow.policies.merging.language import COMMON, stem
from rayflow.policies.merging.markdown import Statement
from rayflow.policies.text import words

HALF_COMPLETE_WORDS = 40
CLEAR_WORDS, UNCLEAR_WORDS = 25, 75
"""Mean length of a sentence up to which it is clear, and from which it is not at all."""


@dataclass(frozen=True, slots=True)
class Score:
    relevance: float
    completeness: float
    accuracy: float
    clarity: float
    total: float

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def relevance(question: str, said: Sequence[Statement]) -> float:
    asked = {stem(word) for word in words(question) if word not in COMMON}
    answered = {stem(word) for statement in said for word in statement.spoken}
    return len(asked & answered) / len(asked) if asked else float(bool(answered))


def completeness(said: Sequence[Statement]) -> float:
    distinct = {statement.spoken for statement in said}
    halvings = sum(map(len, distinct)) / HALF_COMPLETE_WORDS
    return 1.0 - math.exp2(-halvings)


def clarity(said: Sequence[Statement]) -> float:
    lengths = [len(statement.spoken) for statement in said if not statement.solid]
    if not lengths:
        return float(bool(said))
    mean = sum(lengths) / len(lengths)
    return min(1.0, max(0.0, (UNCLEAR_WORDS - mean) / (UNCLEAR_WORDS - CLEAR_WORDS)))


def score(question: str, said: Sequence[Statement], accuracy: float, weights: ScoreWeights) -> Score:
    """The scores of these statements. Weights that are all 0 count alike."""
    values = (relevance(question, said), completeness(said), accuracy, clarity(said))
    shares = (weights.relevance, weights.completeness, weights.accuracy, weights.clarity)
    if not any(shares):
        shares = (1.0, 1.0, 1.0, 1.0)
    total = sum(value * share for value, share in zip(values, shares, strict=True)) / sum(shares)
    return Score(*values, total=total)


def score_statement(question: str, place: Place, comparison: Comparison, weights: ScoreWeights) -> float:
    """The total of one statement by itself: which of two ways to make a point is the better."""
    accuracy = comparison.accuracy_of(place)
    return score(question, [comparison.statement(place)], 0.5 if accuracy is None else accuracy, weights).total
