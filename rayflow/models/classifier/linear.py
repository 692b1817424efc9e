"""Scoring with what was learnt: a few dozen table look-ups and sums, in plain Python.

A message becomes a vector of unit length, and each label's score is its product with that label's weights. The table
stays in one block of bytes (4 bytes a number), from which the rows of a message's features are unpacked.
"""

from __future__ import annotations

from math import sqrt
from struct import Struct

from rayflow.models.classifier.artefact import Artefact
from rayflow.models.classifier.features import features, words

WORDS_SHOWN = 3


class LinearScorer:
    """Implements `rayflow.policies.routing.Scorer`. Some 0.1 ms for a message of ten words and ten labels."""

    def __init__(self, artefact: Artefact) -> None:
        self._row = Struct(f"<{1 + len(artefact.labels)}f")
        self._rows = artefact.rows
        size = self._row.size
        self._offsets = {feature: i * size for i, feature in enumerate(artefact.features)}
        self._intercepts = artefact.intercepts
        calibration = artefact.calibration
        self._calibrate = calibration.independent if artefact.independent else calibration.exclusive

    def score(self, text: str) -> list[float]:
        """The probability of each label."""
        return self._calibrate(self.margins(text))

    def margins(self, text: str) -> list[float]:
        """Distances from each label's boundary, before calibration."""
        rows = self._known(features(text))
        if not rows:
            return self._intercepts
        squares, *sums = map(sum, zip(*rows, strict=True))
        scale = 1.0 / sqrt(squares)
        return [scale * added + base for added, base in zip(sums, self._intercepts, strict=True)]

    def why(self, text: str, agent: int) -> str:
        """The words that add most to the label's score, with what they add in parts of the whole message."""
        rows = self._known(features(text))
        scale = 1.0 / sqrt(sum(row[0] for row in rows)) if rows else 0.0
        added = {
            word: scale * sum(row[1 + agent] for row in self._known(features(word)))
            for word in dict.fromkeys(words(text))
        }
        most = sorted((word for word in added if added[word] >= 0.005), key=lambda word: -added[word])[:WORDS_SHOWN]
        return ", ".join(f"{word} +{added[word]:.2f}" for word in most)

    def _known(self, found: list[str]) -> list[tuple[float, ...]]:
        offsets, rows, unpack = self._offsets, self._rows, self._row.unpack_from
        return [unpack(rows, offsets[feature]) for feature in found if feature in offsets]
