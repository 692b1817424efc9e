"""The limit finds what a pool can work on side by side, from latency alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import AdmissionConfig
from rayflow.policies.adaptive import AdaptiveLimit

CEILING = 200


def limiter(min_limit: int = 4, tolerance: float = 2.0) -> AdaptiveLimit:
    return AdaptiveLimit(AdmissionConfig(adaptive=True, min_limit=min_limit, tolerance=tolerance))


def press(
    limit: AdaptiveLimit, calls: int, capacity: int, base_s: float = 1.0, rng: random.Random | None = None
) -> None:
    """A pool that works on `capacity` calls at a time and is always asked for as many as the limit allows."""
    rng = rng or random.Random(1)
    for i in range(calls):
        in_flight = limit.limit(CEILING)
        latency_s = base_s * max(1.0, in_flight / capacity) * rng.uniform(0.8, 1.2)
        limit.ended(latency_s, in_flight, True, float(i))


def test_it_begins_at_the_ceiling_and_never_passes_it() -> None:
    limit = limiter()
    assert limit.limit(CEILING) == CEILING
    press(limit, 5000, capacity=10_000)
    assert limit.limit(CEILING) == CEILING
    assert limit.limit(50) == 50


def test_under_overload_it_settles_where_calls_take_about_the_tolerated_time() -> None:
    limit = limiter()
    press(limit, 200, capacity=10_000)  # a quiet time first: the best latency is known
    press(limit, 20_000, capacity=20)
    assert 30 <= limit.limit(CEILING) <= 60  # twice the capacity, and a little more to find out
    before = limit.limit(CEILING)
    press(limit, 50_000, capacity=20)
    assert limit.limit(CEILING) == pytest.approx(before, rel=0.2)  # it does not drift up with its own queue


def test_it_grows_again_when_the_pool_can_do_more() -> None:
    limit = limiter()
    press(limit, 200, capacity=10_000)
    press(limit, 5_000, capacity=10)
    low = limit.limit(CEILING)
    press(limit, 20_000, capacity=100)
    assert limit.limit(CEILING) >= 3 * low


@pytest.mark.parametrize("slower", [2.5, 5.0, 20.0])
def test_a_model_that_became_slower_for_good_is_learnt_and_the_limit_recovers(slower: float) -> None:
    limit = limiter()
    press(limit, 500, capacity=100, base_s=1.0)
    press(limit, 30_000, capacity=100, base_s=slower)
    assert limit.limit(CEILING) >= 80


def test_looking_for_the_best_latency_costs_little() -> None:
    limit = limiter()
    press(limit, 200, capacity=10_000)
    press(limit, 20_000, capacity=20)
    seen = []
    for i in range(20_000):
        seen.append(in_flight := limit.limit(CEILING))
        limit.ended(max(1.0, in_flight / 20), in_flight, True, float(i))
    assert sum(each < 20 for each in seen) <= 0.02 * len(seen)


def test_few_calls_in_flight_prove_nothing_about_more() -> None:
    limit = limiter()
    press(limit, 200, capacity=10_000)
    press(limit, 10_000, capacity=10)
    for i in range(100):
        limit.ended(1.0, 5, True, float(i))
    low = limit.limit(CEILING)
    assert low < CEILING / 2
    for i in range(5_000):
        limit.ended(1.0, 5, True, float(i))
    assert limit.limit(CEILING) == low


def test_rounds_of_failures_shrink_it_to_its_floor() -> None:
    limit = limiter(min_limit=8)
    limit.limit(CEILING)
    for i in range(10_000):
        limit.ended(0.01, limit.limit(CEILING), False, float(i))
    assert limit.limit(CEILING) == 8


@given(
    st.lists(st.tuples(st.floats(0, 1e3), st.integers(1, 300), st.booleans()), max_size=400),
    st.integers(1, 300),
    st.integers(1, 50),
)
def test_it_stays_between_its_floor_and_the_ceiling(
    calls: list[tuple[float, int, bool]], ceiling: int, floor: int
) -> None:
    limit = limiter(min_limit=floor)
    for latency_s, in_flight, ok in calls:
        assert min(floor, ceiling) <= limit.limit(ceiling) <= ceiling
        limit.ended(latency_s, in_flight, ok, 0.0)
