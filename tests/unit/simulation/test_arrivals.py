from __future__ import annotations

import random
import statistics
from itertools import pairwise
from typing import Any

import pytest

from rayflow.simulation.arrivals import Arrival, replayed, times
from rayflow.simulation.scenario import Arrivals


def moments(duration_s: float, seed: int = 1, **keys: Any) -> list[float]:
    return list(times(Arrivals(**keys), duration_s, random.Random(seed)))


def count(found: list[float], begin: float, end: float) -> int:
    return sum(begin <= at < end for at in found)


def test_poisson_arrivals_have_the_rate_and_irregular_gaps() -> None:
    found = moments(2000, rate_per_s=10)
    gaps = [b - a for a, b in pairwise(found)]
    assert len(found) == pytest.approx(20_000, rel=0.03)
    assert statistics.pstdev(gaps) / statistics.fmean(gaps) == pytest.approx(1.0, rel=0.05)
    assert found == sorted(found)


def test_regular_arrivals_keep_their_distance() -> None:
    assert moments(1.0, process="regular", rate_per_s=4) == [0.0, 0.25, 0.5, 0.75]


def test_a_step_changes_the_rate_at_its_moment() -> None:
    found = moments(200, process="step", rate_per_s=5, to_per_s=100, at_s=100)
    assert count(found, 0, 100) == pytest.approx(500, rel=0.15)
    assert count(found, 100, 200) == pytest.approx(10_000, rel=0.05)


def test_a_square_wave_has_both_rates_in_turn() -> None:
    found = moments(400, process="square", rate_per_s=10, to_per_s=50, period_s=200)
    halves = [count(found, at, at + 100) for at in (0, 100, 200, 300)]
    assert halves == pytest.approx([1000, 5000, 1000, 5000], rel=0.1)


def test_a_diurnal_load_is_lowest_at_the_ends_of_its_period_and_highest_in_the_middle() -> None:
    found = moments(1000, process="diurnal", rate_per_s=5, to_per_s=45, period_s=1000)
    assert len(found) == pytest.approx(25_000, rel=0.05)
    assert count(found, 450, 550) > 5 * count(found, 0, 100)


def test_the_seed_alone_decides() -> None:
    assert moments(50, seed=3) == moments(50, seed=3) != moments(50, seed=4)


RECORDED = [Arrival(0.0, 10, 1), Arrival(3.0, 20, 2), Arrival(3.0, 30, 3), Arrival(6.0, 40, 4)]


def test_a_trace_is_replayed_in_order_and_ends_with_the_duration() -> None:
    found = list(replayed(Arrivals(process="trace", file="t", speed=2.0), RECORDED, 2.0, random.Random(1)))
    assert [(arrival.at_s, arrival.input_tokens) for arrival in found] == [(0.0, 10), (1.5, 20), (1.5, 30)]


def test_ticks_of_a_coarse_clock_are_spread() -> None:
    found = list(replayed(Arrivals(process="trace", file="t", spread_s=3.0), RECORDED, 100.0, random.Random(1)))
    times_s = [arrival.at_s for arrival in found]
    assert times_s == sorted(times_s)
    assert len(set(times_s)) == 4
    assert all(0 <= at < 9 for at in times_s)
