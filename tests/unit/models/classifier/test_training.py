"""What is learnt from a few examples a label, on made-up messages: right, calibrated, repeatable, and light to use."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
from support.messages_to_route import THINGS, material, strange, unseen

from rayflow.models.classifier.artefact import Artefact
from rayflow.models.classifier.linear import LinearScorer
from rayflow.models.classifier.material import Material
from rayflow.policies.routing.evaluation import calibration_error

pytest.importorskip("sklearn", reason="the extra `intelligent` is not installed")

LABELS = list(THINGS)


@cache
def learnt(per_label: int = 12, nobodys: int = 0, independent: bool = False) -> Artefact:
    from rayflow.models.classifier.training import train

    found = material(per_label, nobodys=nobodys)
    return train(Material(found.labels, found.texts, found.owners, independent))


def judged(per_label: int) -> list[tuple[float, bool]]:
    """Confidence in the surest label, and whether it is right, of messages that were not learnt."""
    scorer = LinearScorer(learnt(per_label))
    scored = [(scorer.score(text), label) for text, label in unseen(material(per_label), seed=99)]
    return [(max(scores), scores[label] == max(scores)) for scores, label in scored]


def test_new_messages_go_to_the_right_label() -> None:
    hits = [right for _, right in judged(per_label=40)]
    assert len(hits) >= 50
    assert sum(hits) / len(hits) >= 0.95


def test_confidence_is_what_it_says() -> None:
    assert calibration_error(judged(per_label=12)) <= 0.15
    assert calibration_error(judged(per_label=40)) <= 0.1


@pytest.mark.parametrize("nobodys", [0, 40])
def test_what_is_nobodys_gets_less_confidence_than_what_is_somebodys(nobodys: int) -> None:
    scorer = LinearScorer(learnt(per_label=40, nobodys=nobodys))
    foreign = sorted(max(scorer.score(text)) for text in strange(60, seed=7))
    known = sorted(confidence for confidence, _ in judged(per_label=40))
    assert foreign[len(foreign) // 2] < known[len(known) // 20], "the middle stranger against the worst twentieth"


def test_a_message_with_nothing_known_in_it_is_nobodys() -> None:
    scorer = LinearScorer(learnt())
    for text in ("", "日本語だけ", "..."):
        assert max(scorer.score(text)) < 0.45


def test_the_same_material_gives_the_same_weights() -> None:
    from rayflow.models.classifier.training import train

    again, first = train(material()), learnt()
    assert (again.rows, again.intercepts, again.calibration) == (first.rows, first.intercepts, first.calibration)


def test_labels_learnt_independently_may_both_be_sure() -> None:
    scorer = LinearScorer(learnt(per_label=40, independent=True))
    billing, _, travel, cooking = scorer.score("i need a refund and a flight")
    assert min(billing, travel) > 5 * cooking


def test_the_words_that_count_are_told() -> None:
    scorer = LinearScorer(learnt())
    assert scorer.why("where is the refund", LABELS.index("billing")).startswith("refund +")
    assert scorer.why("", 0) == ""


@pytest.mark.parametrize(
    "small",
    [
        Material(["a", "b"], ["pay the bill", "fix the crash"], [[0], [1]]),
        Material(["a"], ["pay the bill", "my invoice"], [[0], [0]]),
        Material(["a", "b"], ["x", "x y"], [[0, 1], [1]], True),
        Material(["a", "b", "c", "d"], ["pay", "fix", "cook", "fly", "sing"], [[0], [1], [2], [3], []]),
    ],
    ids=["one example each", "one agent", "shared example", "one example of nobody's"],
)
def test_even_the_smallest_team_can_be_taught(small: Material) -> None:
    from rayflow.models.classifier.training import train

    scorer = LinearScorer(train(small))
    for text, owners in zip(small.texts, small.owners, strict=True):
        scores = scorer.score(text)
        assert all(0 <= score <= 1 for score in scores)
        if owners:
            assert max(scores) == max(scores[owner] for owner in owners)


def test_scoring_loads_neither_scikit_learn_nor_numpy() -> None:
    probe = (
        "import sys\n"
        "import rayflow.app.learning, rayflow.models.classifier.linear, rayflow.models.classifier.nearest\n"
        "print(sorted({'sklearn', 'scipy', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
