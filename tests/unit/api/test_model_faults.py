"""Faults of a rehearsal can be repeated, and come at the rate that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from rayflow.api.model_faults import Behaviour, Fault
from rayflow.errors import ConfigurationError

MIXED = Behaviour(error_rate=0.1, rate_limit_rate=0.1, stall_rate=0.2, cut_rate=0.2, seed=7)


def test_the_same_seed_draws_the_same_faults() -> None:
    again = Behaviour(error_rate=0.1, rate_limit_rate=0.1, stall_rate=0.2, cut_rate=0.2, seed=7)
    assert [MIXED.draw(n) for n in range(100)] == [again.draw(n) for n in range(100)]


def test_another_seed_draws_other_faults() -> None:
    other = Behaviour(error_rate=0.1, rate_limit_rate=0.1, stall_rate=0.2, cut_rate=0.2, seed=8)
    assert [MIXED.draw(n) for n in range(100)] != [other.draw(n) for n in range(100)]


def test_faults_come_at_their_rates() -> None:
    faults = [MIXED.draw(n).fault for n in range(4000)]
    for fault, rate in ((Fault.ERROR, 0.1), (Fault.RATE_LIMIT, 0.1), (Fault.STALL, 0.2), (Fault.CUT, 0.2)):
        assert faults.count(fault) / len(faults) == pytest.approx(rate, abs=0.03)


def test_no_rate_means_no_fault() -> None:
    assert {Behaviour(seed=n).draw(n).fault for n in range(100)} == {Fault.NONE}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"error_rate": -0.1}, "error_rate"),
        ({"ttft_ms": float("nan")}, "ttft_ms"),
        ({"output_tokens": 0}, "output_tokens"),
        ({"error_rate": 0.6, "cut_rate": 0.6}, "add up to 1.2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Behaviour(**settings)
