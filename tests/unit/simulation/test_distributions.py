from __future__ import annotations

import random
import statistics
from typing import Any

import pytest

from rayflow.simulation.distributions import Distribution, mean_of, sampler

DRAWS = 40_000


def drawn(**keys: Any) -> list[float]:
    rng, draw = random.Random(1), sampler(Distribution(**keys))
    return [draw(rng) for _ in range(DRAWS)]


@pytest.mark.parametrize(
    ("keys", "cv"),
    [
        ({"kind": "constant"}, 0.0),
        ({"kind": "uniform"}, 0.577),
        ({"kind": "exponential"}, 1.0),
        ({"kind": "lognormal", "cv": 0.5}, 0.5),
        ({"kind": "lognormal", "cv": 0.0}, 0.0),
        ({"kind": "gamma", "cv": 1.5}, 1.5),
        ({"kind": "gamma", "cv": 0.0}, 0.0),
    ],
)
def test_draws_have_the_mean_and_the_variation_that_were_asked_for(keys: dict[str, Any], cv: float) -> None:
    values = drawn(mean=3.0, **keys)
    mean = statistics.fmean(values)
    assert mean == pytest.approx(3.0, rel=0.03)
    assert statistics.pstdev(values) / mean == pytest.approx(cv, rel=0.05, abs=1e-9)
    assert min(values) >= 0


def test_an_empirical_one_draws_what_was_measured() -> None:
    values = drawn(kind="empirical", values=[1.0, 1.0, 4.0])
    assert set(values) == {1.0, 4.0}
    assert statistics.fmean(values) == pytest.approx(2.0, rel=0.03)
    assert mean_of(Distribution(kind="empirical", values=[1.0, 1.0, 4.0])) == 2.0


def test_a_plain_number_is_always_that_number() -> None:
    assert sampler(0.25)(random.Random(1)) == mean_of(0.25) == 0.25


def test_a_mean_of_nothing_is_nothing() -> None:
    assert sampler(Distribution(kind="exponential", mean=0.0))(random.Random(1)) == 0.0
    assert sampler(Distribution(kind="empirical"))(random.Random(1)) == 0.0
