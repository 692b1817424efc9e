"""Retries are a share of the traffic, and a few more; never an avalanche."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.budget import RetryBudget, Window


def retries(budget: RetryBudget, now: float, wanted: int = 10_000) -> int:
    return sum(budget.retry(now) for _ in range(wanted))


def test_a_quiet_service_may_retry_ten_a_second() -> None:
    assert retries(RetryBudget(), 5.0) == 100


def test_a_busy_one_a_fifth_of_its_requests_more() -> None:
    budget = RetryBudget()
    for i in range(1000):
        budget.request(i / 200)
    assert retries(budget, 5.0) == 100 + 200


def test_what_is_spent_comes_back_after_the_window() -> None:
    budget = RetryBudget()
    assert retries(budget, 100.0) == 100
    assert not budget.retry(109.9)
    assert retries(budget, 110.0) == 100


def test_a_budget_of_nothing_allows_nothing() -> None:
    budget = RetryBudget(share=0.0, floor_per_s=0.0)
    budget.request(1.0)
    assert not budget.retry(1.0)


@given(st.lists(st.floats(0, 60), max_size=200), st.integers(1, 12))
def test_a_window_counts_what_happened_within_it(times: list[float], seconds: int) -> None:
    window = Window(seconds)
    times.sort()
    for time in times:
        window.add(time)
    now = times[-1] if times else 0.0
    assert window.total == sum(int(now) - int(time) < seconds for time in times)


@pytest.mark.parametrize("gap", [0.0, 3.0, 1e6])
def test_time_that_passes_without_requests_is_forgotten(gap: float) -> None:
    window = Window(5)
    window.add(1e9)
    window.turn(1e9 + gap)
    assert window.total == (1 if gap < 5 else 0)
