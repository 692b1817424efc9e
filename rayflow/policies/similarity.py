"""How alike texts are, and what search by words and by meaning say together.

Ranks are blended as a convex combination of normalised scores, which loses less than adding up places does and has one
parameter that is easy to learn. Source: S. Bruch, S. Gai, A. Ingber, "An Analysis of Fusion Functions for Hybrid
Retrieval", ACM TOIS 42(1), 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import mul

Vector = Sequence[float]
"""Of unit length."""


def similarity(a: Vector, b: Vector) -> float:
    """The cosine of two vectors of unit length, from -1 to 1."""
    return float(sum(map(mul, a, b)))


def blend(lexical: Mapping[int, float], meaning: Mapping[int, float], weight: float) -> dict[int, float]:
    """One score for each that either of them knows, from 0 to 1. `lexical`: scores above 0, of any scale. `meaning`:
    cosines; what is below 0 counts as 0. `weight`: the share of meaning, from 0 to 1."""
    best_word = max(lexical.values(), default=0.0) or 1.0
    best_meaning = max(meaning.values(), default=0.0)
    scale = weight / best_meaning if best_meaning > 0 else 0.0
    scores = {key: (1 - weight) * score / best_word for key, score in lexical.items()}
    for key, cosine in meaning.items():
        if cosine > 0:
            scores[key] = scores.get(key, 0.0) + scale * cosine
    return scores
