"""One timestamp a key: bursts, an even pace, and exact waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.gcra import Rate


def test_a_burst_passes_at_once_and_the_next_one_waits_for_its_interval() -> None:
    rate, timestamp = Rate(10, 60.0, 3), 0.0
    for _ in range(3):
        assert rate.wait_s(timestamp, 100.0) == 0
        timestamp = rate.taken(timestamp, 100.0)
    assert rate.wait_s(timestamp, 100.0) == pytest.approx(6.0)
    assert rate.wait_s(timestamp, 106.0) == pytest.approx(0.0)


def test_an_idle_key_gets_a_burst_and_no_more() -> None:
    rate, timestamp, passed = Rate(10, 60.0, 3), 0.0, 0
    while not rate.wait_s(timestamp, 1e6):
        timestamp = rate.taken(timestamp, 1e6)
        passed += 1
    assert passed == 3


def test_several_keepers_let_through_no_more_together_than_one() -> None:
    rate = Rate(100, 10.0, 100)
    part = rate.divided(4)
    assert part.interval_s == 4 * rate.interval_s
    assert part.burst == 25


@given(
    st.integers(1, 50), st.floats(0.1, 100), st.integers(1, 20), st.lists(st.floats(0, 50), min_size=1, max_size=300)
)
def test_in_no_stretch_do_more_pass_than_the_burst_and_the_rate(
    requests: int, window_s: float, burst: int, pauses: list[float]
) -> None:
    rate, now, timestamp = Rate(requests, window_s, burst), 0.0, 0.0
    passed: list[float] = []
    for pause in pauses:
        now += pause
        if rate.wait_s(timestamp, now) <= 1e-9:
            timestamp = rate.taken(timestamp, now)
            passed.append(now)
    for i, first in enumerate(passed):
        for j in range(i, len(passed)):
            assert j - i + 1 <= burst + (passed[j] - first) / rate.interval_s + 1e-3


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.integers(1, 50), st.integers(1, 20))
def test_the_wait_is_exact(timestamp: float, now: float, requests: int, burst: int) -> None:
    rate = Rate(requests, 10.0, burst)
    wait_s = rate.wait_s(timestamp, now)
    if wait_s > 1e-3:
        assert rate.wait_s(timestamp, now + wait_s * 0.99) > 0
        assert rate.wait_s(timestamp, now + wait_s) == pytest.approx(0, abs=1e-6)


@given(st.floats(0, 1e9), st.integers(1, 1000), st.floats(0.001, 86_400))
def test_a_new_key_does_not_wait_whatever_the_clock_says(now: float, burst: int, window_s: float) -> None:
    rate = Rate(burst, window_s, burst)
    assert rate.wait_s(0.0, now) == 0.0
    assert rate.wait_s(now, now) == 0.0
