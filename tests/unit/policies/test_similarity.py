from __future__ import annotations

from rayflow.policies.similarity import blend, similarity


def test_the_cosine_of_unit_vectors() -> None:
    assert similarity([1.0, 0.0], [1.0, 0.0]) == 1.0
    assert similarity([1.0, 0.0], [0.0, 1.0]) == 0.0
    assert similarity([0.6, 0.8], [-0.6, -0.8]) == -1.0


def test_the_weight_says_who_decides() -> None:
    words, meaning = {1: 10.0, 2: 1.0}, {1: 0.1, 2: 0.9, 3: 0.5}

    def first(weight: float) -> int:
        scores = blend(words, meaning, weight)
        return max(scores, key=lambda key: scores[key])

    assert first(0.0) == 1 and first(1.0) == 2
    assert set(blend(words, meaning, 0.5)) == {1, 2, 3}
    assert all(0 <= score <= 1 for score in blend(words, meaning, 0.4).values())


def test_one_of_both_is_enough_and_opposites_count_for_nothing() -> None:
    assert blend({}, {1: 0.5, 2: 0.25}, 0.4) == {1: 0.4, 2: 0.2}
    assert blend({1: 3.0}, {}, 0.4) == {1: 0.6}
    assert blend({1: 3.0}, {1: -0.9, 2: -0.1}, 0.4) == {1: 0.6}
    assert blend({}, {}, 0.4) == {}
