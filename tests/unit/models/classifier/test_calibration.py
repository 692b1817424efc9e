"""Probabilities that mean what they say: parameters are found again from data that was drawn with them."""

from __future__ import annotations

import random
from math import exp, isclose, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.models.classifier.calibration import Calibration, Case, fit, pairs

ASSUMED = Calibration(4.0, -2.0)


def drawn(truth: Calibration, count: int, seed: int = 1) -> list[Case]:
    """Cases whose right label was drawn with the very probabilities that `truth` gives."""
    rng = random.Random(seed)
    cases = []
    for _ in range(count):
        scores = [rng.gauss(-0.5, 0.7) for _ in range(3)]
        chances = truth.exclusive(scores)
        right = rng.choices([0, 1, 2, -1], [*chances, max(0.0, 1 - sum(chances))])[0]
        cases.append(Case(scores, right))
    return cases


@pytest.mark.parametrize("truth", [Calibration(5.0, -1.0), Calibration(1.5, 0.5), Calibration(9.0, -4.0)])
def test_the_true_parameters_are_found_again(truth: Calibration) -> None:
    found = fit(drawn(truth, 4000), ASSUMED)
    assert found.slope == pytest.approx(truth.slope, rel=0.15)
    assert found.nobody == pytest.approx(truth.nobody, abs=0.4)


def test_of_messages_that_get_eight_tenths_eight_in_ten_are_right() -> None:
    truth = Calibration(3.0, -1.0)
    found = fit(drawn(truth, 4000), ASSUMED)
    sure = [(max(chances), case) for case in drawn(truth, 8000, seed=2) if (chances := found.exclusive(case.scores))]
    judged = [case.right == max(range(3), key=case.scores.__getitem__) for top, case in sure if 0.75 <= top <= 0.85]
    assert len(judged) > 300
    assert sum(judged) / len(judged) == pytest.approx(0.8, abs=0.05)


def test_without_cases_what_was_assumed_stays() -> None:
    assert fit([], ASSUMED) == pytest.approx(ASSUMED)


def test_perfect_separation_does_not_make_it_certain_of_everything() -> None:
    found = fit([Case((1.0, -1.0), 0), Case((-1.0, 1.0), 1)], ASSUMED)
    assert 0.9 < max(found.exclusive((1.0, -1.0))) < 0.9999


def test_more_messages_of_nobody_make_every_agent_less_certain() -> None:
    known = [Case((1.0, -1.0), 0), Case((-1.0, 1.0), 1)] * 20
    few = fit([*known, Case((-0.5, -0.5), -1, 1.0)], ASSUMED)
    many = fit([*known, Case((-0.5, -0.5), -1, 50.0)], ASSUMED)
    assert max(many.exclusive((0.0, -1.0))) < max(few.exclusive((0.0, -1.0)))


def test_labels_that_do_not_exclude_each_other_may_both_be_likely() -> None:
    both = [Case((1.0,), 0)] * 30 + [Case((-1.0,), -1)] * 30
    found = fit(both, ASSUMED)
    assert min(found.independent((1.0, 1.0))) > 0.8
    assert max(found.exclusive((1.0, 1.0))) <= 0.5


def test_pairs_are_one_case_a_label() -> None:
    assert pairs((0.5, -0.5), [1]) == [Case((0.5,), -1), Case((-0.5,), 0)]


scores = st.lists(st.floats(-50, 50), min_size=1, max_size=8)


@given(scores, st.floats(0.1, 40), st.floats(-20, 20))
def test_exclusive_probabilities_sum_to_no_more_than_one_and_keep_the_order(
    scores: list[float], slope: float, nobody: float
) -> None:
    chances = Calibration(slope, nobody).exclusive(scores)
    assert all(0 <= chance <= 1 for chance in chances)
    assert sum(chances) <= 1 + 1e-9
    assert chances[scores.index(max(scores))] == max(chances)


@given(scores, st.floats(0.1, 40), st.floats(-20, 20))
def test_one_label_alone_is_the_same_both_ways(scores: list[float], slope: float, nobody: float) -> None:
    calibration = Calibration(slope, nobody)
    for score, chance in zip(scores, calibration.independent(scores), strict=True):
        assert isclose(chance, calibration.exclusive([score])[0], rel_tol=1e-9, abs_tol=1e-12)


def test_a_newton_step_never_makes_the_fit_worse() -> None:
    cases = drawn(Calibration(6.0, -2.0), 300)

    def misfit(calibration: Calibration) -> float:
        loss = 0.0
        for case in cases:
            chances = calibration.exclusive(case.scores)
            none = exp(calibration.nobody) / (
                sum(exp(calibration.slope * s) for s in case.scores) + exp(calibration.nobody)
            )
            loss -= log(chances[case.right] if case.right >= 0 else none)
        return loss

    assert misfit(fit(cases, Calibration(30.0, 10.0))) < misfit(Calibration(30.0, 10.0))
    assert misfit(fit(cases, Calibration(0.1, 0.0))) < misfit(Calibration(0.1, 0.0))
