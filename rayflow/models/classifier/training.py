"""Training, with scikit-learn: the only module of the package that needs the extra `intelligent`.

One linear support vector machine a label, on tf-idf of words, pairs and pieces of words: for short messages nothing
that trains in seconds does better (docs/policies/routing.md has what was tried). Messages that are nobody's are
negative examples for all.

The margins then become probabilities (`calibration`), learnt from margins of messages that were left out of the fit.
Whether a message may be nobody's is learnt from given messages of that kind, or, where there are too few, by leaving
whole agents out: to a team without its biller, an invoice is out of scope.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from rayflow.models.classifier.artefact import Artefact
from rayflow.models.classifier.calibration import Calibration, Case, fit, pairs
from rayflow.models.classifier.features import features
from rayflow.models.classifier.material import Material

MANY_TEXTS = 5000
"""From here on, a feature must occur twice: the table halves, and nothing is lost."""
FOLDS = 4
FEW_NOBODYS = 30
"""Fewer messages that are nobody's say too little about those to come: whole agents are left out beside them."""
LEAST_LABELS_LEFT = 3
"""A team of fewer is no team to be a stranger to."""
NOBODYS_SHARE = 0.025
"""Of all messages to come, the share that is assumed to be nobody's."""
ASSUMED = Calibration(slope=6.0, nobody=-3.5)
"""Before any margin was seen: about what small sets of examples turn out to need."""
MAX_CASES = 3000
"""More messages do not make two numbers more certain."""


class Fitted(NamedTuple):
    weights: Any
    """Features x labels."""
    intercepts: Any

    def margins(self, vectors: csr_matrix) -> Any:
        return vectors @ self.weights + self.intercepts


def train(material: Material) -> Artefact:
    """Seconds for thousands of texts, on one core. The same material gives the same artefact."""
    began = time.process_time()
    least = 2 if len(material.texts) >= MANY_TEXTS else 1
    vectorizer = TfidfVectorizer(analyzer=features, sublinear_tf=True, min_df=least)
    vectors = vectorizer.fit_transform(material.texts)
    owned = np.zeros((len(material.texts), len(material.labels)), dtype=bool)
    for row, owners in enumerate(material.owners):
        owned[row, owners] = True
    fitted = _fit(vectors, owned)
    squares = (vectorizer.idf_**2)[:, None]
    rows = np.hstack([squares, fitted.weights * vectorizer.idf_[:, None]]).astype("<f4")
    return Artefact(
        key=material.key,
        labels=material.labels,
        features=vectorizer.get_feature_names_out().tolist(),
        rows=rows.tobytes(),
        intercepts=fitted.intercepts.tolist(),
        calibration=_calibrated(vectors, owned, material.independent),
        independent=material.independent,
        facts={
            "texts": len(material.texts),
            "features": rows.shape[0],
            "cpu_seconds": round(time.process_time() - began, 3),
        },
    )


def _fit(vectors: csr_matrix, owned: Any) -> Fitted:
    columns = [_one(vectors, owned[:, label]) for label in range(owned.shape[1])]
    return Fitted(
        np.column_stack([weights for weights, _ in columns]), np.array([intercept for _, intercept in columns])
    )


def _one(vectors: csr_matrix, own: Any) -> tuple[Any, float]:
    """Weights and intercept of one label; where everything, or nothing, is its own, there is nothing to learn."""
    if own.all() or not own.any():
        return np.zeros(vectors.shape[1]), 1.0 if own.any() else -1.0
    machine = LinearSVC(C=1.0, random_state=0, max_iter=10_000).fit(vectors, own)
    return machine.coef_[0], float(machine.intercept_[0])


def _calibrated(vectors: csr_matrix, owned: Any, independent: bool) -> Calibration:
    held_out = list(_held_out(vectors, owned))
    if independent:
        return fit([case for margins, own in _thinned(held_out) for case in pairs(margins, own)], ASSUMED)
    known = _thinned([row for row in held_out if row[1]])
    strangers = [margins for margins, own in held_out if not own]
    if len(strangers) < FEW_NOBODYS:
        strangers += _strangers(vectors, owned)
    share = NOBODYS_SHARE / (1 - NOBODYS_SHARE) * max(len(known), 1) / len(strangers)
    cases = [Case(margins, label, 1 / len(own)) for margins, own in known for label in own]
    return fit([*cases, *(Case(margins, -1, share) for margins in strangers)], ASSUMED)


Row = tuple[list[float], list[int]]
"""Margins of a message that was left out of the fit, and whose it is."""


def _held_out(vectors: csr_matrix, owned: Any) -> Iterator[Row]:
    """Every message once, with its margins from a fit without it. A label's only example must stay in."""
    folds = np.array([-1] * len(owned))
    kinds: dict[tuple[bool, ...], list[int]] = {}
    for row, own in enumerate(owned.tolist()):
        kinds.setdefault(tuple(own), []).append(row)
    for rows in kinds.values():
        if len(rows) > 1:
            folds[np.random.default_rng(0).permutation(rows)] = np.arange(len(rows)) % FOLDS
    for fold in range(FOLDS):
        out = folds == fold
        if out.any():
            margins = _fit(vectors[~out], owned[~out]).margins(vectors[out])
            yield from zip(margins.tolist(), map(_numbers, owned[out]), strict=True)


def _strangers(vectors: csr_matrix, owned: Any) -> list[list[float]]:
    """Margins of messages whose owners were left out of the team, a quarter of it at a time; and those of a message
    in which nothing is known."""
    strangers = [_fit(vectors, owned).intercepts.tolist()]
    labels = owned.shape[1]
    if labels - -(-labels // FOLDS) < LEAST_LABELS_LEFT:
        return strangers
    for part in range(FOLDS):
        there = np.arange(labels) % FOLDS != part
        theirs = owned[:, ~there].any(axis=1)
        out = np.flatnonzero(theirs & ~owned[:, there].any(axis=1))[: MAX_CASES // FOLDS]
        strangers += _fit(vectors[~theirs], owned[~theirs][:, there]).margins(vectors[out]).tolist()
    return strangers


def _thinned(rows: list[Row]) -> list[Row]:
    """As many as are needed, from everywhere."""
    return rows[:: 1 + len(rows) // MAX_CASES]


def _numbers(own: Any) -> list[int]:
    return list(map(int, np.flatnonzero(own)))
