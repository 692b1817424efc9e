"""From scores to probabilities: of all messages that get 0.8, 8 in 10 should be right.

The scores d of the labels compete with one another and with "nobody", whose score is a constant:

    p_k = exp(slope * d_k) / (sum_j exp(slope * d_j) + exp(nobody))

That is temperature scaling (Guo et al., ICML 2017) with one more class; where labels do not exclude each other, each
competes with "nobody" alone, which is Platt scaling. Both numbers are found by maximum likelihood on messages that the
scores were not learnt from. The problem is convex, so a few Newton steps solve it, in plain Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple

STEPS = 50
CLOSE = 1e-6
FAR = 700.0
"""The largest power of e that a float holds is a little above."""
TRUST = 0.5
"""Standard deviation of what is assumed before any message was seen, as a share of the assumed value. It decides where
there are next to no messages, and stops a slope that perfect separation would let grow for ever."""


class Case(NamedTuple):
    """One message: a score per label, and which label is right; -1 where none is."""

    scores: Sequence[float]
    right: int
    weight: float = 1.0


class Calibration(NamedTuple):
    slope: float
    nobody: float

    def exclusive(self, scores: Sequence[float]) -> list[float]:
        """Probabilities of labels of which one is right at most; what is missing to 1 is the probability that none
        is."""
        logits = [self.slope * score for score in scores]
        top = max(self.nobody, *logits)
        odds = [exp(logit - top) for logit in logits]
        total = sum(odds) + exp(self.nobody - top)
        return [odd / total for odd in odds]

    def independent(self, scores: Sequence[float]) -> list[float]:
        """Probabilities of labels that do not exclude each other."""
        return [1.0 / (1.0 + exp(min(self.nobody - self.slope * score, FAR))) for score in scores]


def fit(cases: Sequence[Case], assumed: Calibration) -> Calibration:
    """The most probable calibration, given these cases and what was assumed without them."""
    slope, nobody = assumed
    loss = _loss(cases, assumed, assumed)
    for _ in range(STEPS):
        step_slope, step_nobody = _newton_step(cases, Calibration(slope, nobody), assumed)
        size = 1.0
        while True:
            tried = Calibration(slope - size * step_slope, nobody - size * step_nobody)
            reached = _loss(cases, tried, assumed)
            if reached <= loss or size < CLOSE:
                break
            size /= 2
        gained, loss = loss - reached, min(loss, reached)
        slope, nobody = tried
        if gained < CLOSE:
            break
    return Calibration(slope, nobody)


def pairs(scores: Sequence[float], right: Sequence[int], weight: float = 1.0) -> list[Case]:
    """One message whose labels do not exclude each other, as one case a label."""
    return [Case((score,), 0 if label in right else -1, weight) for label, score in enumerate(scores)]


def _loss(cases: Sequence[Case], calibration: Calibration, assumed: Calibration) -> float:
    """Negative logarithm of the posterior."""
    loss = 0.5 * sum(((value - mean) / _deviation(mean)) ** 2 for value, mean in zip(calibration, assumed, strict=True))
    for scores, right, weight in cases:
        logits = [calibration.slope * score for score in scores]
        top = max(calibration.nobody, *logits)
        total = sum(exp(logit - top) for logit in logits) + exp(calibration.nobody - top)
        loss += weight * (log(total) + top - (logits[right] if right >= 0 else calibration.nobody))
    return loss


def _newton_step(cases: Sequence[Case], at: Calibration, assumed: Calibration) -> tuple[float, float]:
    """Gradient and Hessian are the mean and the covariance, under the probabilities, of (score, is nobody)."""
    certainty = [_deviation(mean) ** -2 for mean in assumed]
    slope_1, nobody_1 = ((at[i] - assumed[i]) * certainty[i] for i in (0, 1))
    slope_2, nobody_2 = certainty
    mixed = 0.0
    for scores, right, weight in cases:
        chances = at.exclusive(scores)
        none = max(0.0, 1.0 - sum(chances))
        mean = sum(chance * score for chance, score in zip(chances, scores, strict=True))
        square = sum(chance * score * score for chance, score in zip(chances, scores, strict=True))
        slope_1 += weight * (mean - (scores[right] if right >= 0 else 0.0))
        nobody_1 += weight * (none - (right < 0))
        slope_2 += weight * (square - mean * mean)
        nobody_2 += weight * none * (1.0 - none)
        mixed -= weight * mean * none
    determinant = slope_2 * nobody_2 - mixed * mixed
    return (
        (nobody_2 * slope_1 - mixed * nobody_1) / determinant,
        (slope_2 * nobody_1 - mixed * slope_1) / determinant,
    )


def _deviation(mean: float) -> float:
    return TRUST * max(abs(mean), 1.0)
