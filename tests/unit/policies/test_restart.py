"""OTP's rule: so many deaths within so many seconds, and not one more."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.restart import RestartPolicy, along, decide, wanted

POLICY = RestartPolicy(intensity=3, period_s=10.0, base_delay_s=0.1, max_delay_s=0.5)


def rng(seed: int = 1) -> random.Random:
    return random.Random(seed)


def test_the_first_death_is_answered_at_once() -> None:
    assert decide([100.0], POLICY, 100.0, rng()) == 0.0


def test_as_many_deaths_as_the_intensity_are_answered_and_one_more_parks() -> None:
    assert decide([1.0, 2.0, 3.0], POLICY, 3.0, rng()) is not None
    assert decide([1.0, 2.0, 3.0, 4.0], POLICY, 4.0, rng()) is None


def test_deaths_outside_the_period_do_not_count() -> None:
    assert decide([2.9, 4.0, 5.0, 13.0], POLICY, 13.0, rng()) is not None
    assert decide([3.0, 4.0, 5.0, 13.0], POLICY, 13.0, rng()) is None
    assert decide([1.0, 2.0, 50.0], POLICY, 50.0, rng()) == 0.0


def test_an_intensity_of_nothing_parks_at_the_first_death() -> None:
    assert decide([1.0], RestartPolicy(intensity=0), 1.0, rng()) is None


@given(st.integers(2, 3), st.integers())
def test_the_wait_is_random_within_a_bound_that_doubles(deaths: int, seed: int) -> None:
    delay_s = decide([5.0] * deaths, POLICY, 5.0, rng(seed))
    assert delay_s is not None
    assert 0 <= delay_s <= min(0.5, 0.1 * 2 ** (deaths - 1))


@given(st.integers(2, 30), st.integers())
def test_no_wait_is_longer_than_the_limit(deaths: int, seed: int) -> None:
    policy = RestartPolicy(intensity=30, base_delay_s=0.1, max_delay_s=0.5)
    delay_s = decide([5.0] * deaths, policy, 5.0, rng(seed))
    assert delay_s is not None
    assert delay_s <= 0.5


@given(st.integers(2, 30), st.integers())
def test_a_child_whose_siblings_die_does_not_wait_longer_for_it(deaths: int, seed: int) -> None:
    policy = RestartPolicy(intensity=30, base_delay_s=0.1, max_delay_s=2.0)
    delay_s = decide([5.0] * deaths, policy, 5.0, rng(seed), own=[5.0])
    assert delay_s is not None
    assert delay_s <= 0.1


def test_waits_repeat_with_the_seed_and_differ_without() -> None:
    waits = [decide([1.0, 1.0, 1.0], POLICY, 1.0, rng(seed)) for seed in (1, 2, 1)]
    assert waits[0] == waits[2] != waits[1]


@pytest.mark.parametrize(
    ("restart", "normal", "shutdown", "abnormal"),
    [("permanent", True, True, True), ("transient", False, False, True), ("temporary", False, False, False)],
)
def test_the_restart_type_says_which_deaths_matter(restart: str, normal: bool, shutdown: bool, abnormal: bool) -> None:
    matters = [wanted(restart, reason) for reason in ("normal", "shutdown", "abnormal")]  # type: ignore[arg-type]
    assert matters == [normal, shutdown, abnormal]


@pytest.mark.parametrize(
    ("strategy", "expected"), [("one_for_one", "b"), ("one_for_all", "abc"), ("rest_for_one", "bc")]
)
def test_the_strategy_says_who_shares_the_fate_of_the_dead(strategy: str, expected: str) -> None:
    assert along(strategy, "abc", "b") == list(expected)  # type: ignore[arg-type]
