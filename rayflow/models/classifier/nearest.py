"""Nearness to examples: whose examples a message is most like, without any training.

Messages and examples are vectors of tf-idf (Salton and Buckley, 1988) over words, pairs and pieces of words; their
cosine is the likeness. An agent's score is the mean of its best few, so that one odd example does not decide.
Probabilities come from the examples themselves: each is scored as if it were not there, once within the team and once
without its owner, as if it were nobody's (`calibration`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from heapq import nlargest
from math import log, sqrt

from rayflow.models.classifier.calibration import Calibration, Case, fit, pairs
from rayflow.models.classifier.features import features
from rayflow.models.classifier.material import Material

BEST = 3
MAX_TEXTS = 2000
"""More examples are thinned out: each message is compared with all of them. For more there is `intelligent`."""
MAX_CASES = 300
COMMON_SHARE, COMMON_AT_LEAST = 0.2, 100
"""What occurs in more of the examples says nothing about any, and would take most of the time."""
NOBODYS_SHARE = 0.025
"""Of all messages to come, the share that is assumed to be nobody's."""
ASSUMED = Calibration(slope=25.0, nobody=2.0)
"""Before any example was scored; also what teams without examples, only with descriptions, get."""


class NearestScorer:
    """Implements `rayflow.policies.routing.Scorer`."""

    def __init__(self, material: Material) -> None:
        self._labels = len(material.labels)
        kept = _thinned(len(material.texts))
        self._texts = [material.texts[i] for i in kept]
        self._owners = [material.owners[i] for i in kept]
        found = [features(text) for text in self._texts]
        counts = Counter(feature for of_one in found for feature in of_one)
        common = max(COMMON_AT_LEAST, COMMON_SHARE * len(found))
        self._weight = {feature: 1.0 + log((1 + len(found)) / (1 + n)) for feature, n in counts.items() if n <= common}
        self._postings: dict[str, list[tuple[int, float]]] = {feature: [] for feature in self._weight}
        for i, of_one in enumerate(found):
            telling = [feature for feature in of_one if feature in self._weight]
            length = sqrt(sum(self._weight[feature] ** 2 for feature in telling))
            for feature in telling:
                self._postings[feature].append((i, self._weight[feature] / length))
        calibration = self._calibrated(material.independent)
        self._calibrate = calibration.independent if material.independent else calibration.exclusive

    def score(self, text: str) -> list[float]:
        """The probability of each label."""
        return self._calibrate(self._per_label(self._likeness(text)))

    def why(self, text: str, agent: int) -> str:
        """The label's example that is most like the message."""
        likeness = self._likeness(text)
        best = max((i for i in likeness if agent in self._owners[i]), key=likeness.__getitem__, default=None)
        return "" if best is None else f"like {self._texts[best]!r} ({likeness[best]:.2f})"

    def _likeness(self, text: str) -> dict[int, float]:
        """Cosine with each example that has anything in common with the text."""
        known = [feature for feature in features(text) if feature in self._weight]
        likeness: dict[int, float] = {}
        for feature in known:
            weight = self._weight[feature]
            for example, share in self._postings[feature]:
                likeness[example] = likeness.get(example, 0.0) + weight * share
        length = sqrt(sum(self._weight[feature] ** 2 for feature in known))
        return {example: total / length for example, total in likeness.items()}

    def _per_label(self, likeness: dict[int, float]) -> list[float]:
        of_label: list[list[float]] = [[] for _ in range(self._labels)]
        for example, cosine in likeness.items():
            for owner in self._owners[example]:
                of_label[owner].append(cosine)
        return [sum(nlargest(BEST, cosines)) / BEST for cosines in of_label]

    def _calibrated(self, independent: bool) -> Calibration:
        chosen = random.Random(0).sample(range(len(self._texts)), min(MAX_CASES, len(self._texts)))
        others = Counter(owner for owners in self._owners for owner in owners)
        known: list[Case] = []
        strangers: list[Sequence[float]] = []
        for example in chosen:
            likeness = self._likeness(self._texts[example])
            likeness.pop(example, None)
            scores, owners = self._per_label(likeness), self._owners[example]
            if all(others[owner] > 1 for owner in owners):  # else it is all that is known of somebody
                known += pairs(scores, owners) if independent else [Case(scores, o, 1 / len(owners)) for o in owners]
            rest = [score for label, score in enumerate(scores) if label not in owners]
            if rest and not independent:
                strangers.append(rest)
        share = NOBODYS_SHARE / (1 - NOBODYS_SHARE) * max(len(known), 1) / max(len(strangers), 1)
        return fit([*known, *(Case(scores, -1, share) for scores in strangers)], ASSUMED) if known else ASSUMED


def _thinned(count: int) -> Sequence[int]:
    return range(count) if count <= MAX_TEXTS else sorted(random.Random(0).sample(range(count), MAX_TEXTS))
