"""A second call is made for the slowest few, and for nobody while little is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import HedgingConfig
from rayflow.policies.hedging import REMEMBERED, Hedging


def hedging(*took_s: float, **config: float) -> Hedging:
    made = Hedging(HedgingConfig.model_validate({"enabled": True, **config}))
    for seconds in took_s:
        made.observed(seconds)
    return made


def test_it_is_off_unless_it_is_asked_for() -> None:
    made = Hedging(HedgingConfig())
    for _ in range(100):
        made.observed(1.0)
    assert made.wait_s() is None


def test_it_waits_until_enough_is_known() -> None:
    assert hedging(*[1.0] * 19).wait_s() is None
    assert hedging(*[1.0] * 20).wait_s() == 1.0


def test_one_call_in_twenty_takes_longer_than_the_wait() -> None:
    assert hedging(*range(1, 101)).wait_s() == 96
    assert hedging(*range(1, 101), quantile=0.5).wait_s() == 51


def test_what_is_long_ago_is_forgotten() -> None:
    made = hedging(*[9.0] * 50)
    for _ in range(REMEMBERED):
        made.observed(1.0)
    assert made.wait_s() == 1.0


@given(st.lists(st.floats(0, 100), min_size=20, max_size=3 * REMEMBERED), st.floats(0.01, 0.99))
def test_the_share_of_longer_answers_is_what_the_quantile_says(took: list[float], quantile: float) -> None:
    wait_s = hedging(*took, quantile=quantile).wait_s()
    recent = took[-REMEMBERED:]
    assert wait_s in recent
    assert sum(seconds > wait_s for seconds in recent) <= (1 - quantile) * len(recent)


@pytest.mark.parametrize("quantile", [0.0, 1.0])
def test_a_quantile_that_hedges_all_or_none_is_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        HedgingConfig(quantile=quantile)
