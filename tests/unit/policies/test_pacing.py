"""A replica with few streams does not rest; one with many rests longer, up to a limit, and all its streams together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.pacing import MAX_STEPS, rest_s


@pytest.mark.parametrize("streams", [0, 1, 3])
def test_a_replica_with_few_streams_does_not_rest(streams: int) -> None:
    assert rest_s(streams, 0.01, 1.0) == 0


def test_the_rest_grows_with_the_streams_and_has_a_limit() -> None:
    longest = [max(rest_s(streams, 0.01, tick / 1000) for tick in range(100)) for streams in range(0, 500)]
    assert longest == sorted(longest)
    assert longest[4] == pytest.approx(0.01)
    assert longest[-1] == pytest.approx(MAX_STEPS * 0.01)


@given(st.floats(0, 1e6), st.floats(0, 0.0099))
def test_streams_rest_until_the_same_moment(now: float, later: float) -> None:
    first, second = now + rest_s(100, 0.01, now), now + later + rest_s(100, 0.01, now + later)
    steps = (second - first) / 0.02
    assert steps == pytest.approx(round(steps), abs=1e-3)


def test_no_flush_interval_means_no_rest() -> None:
    assert rest_s(1000, 0.0, 1.0) == 0
