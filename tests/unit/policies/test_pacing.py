"""A replica with few streams does not rest; one with many rests longer, up to a limit."""

from __future__ import annotations

import pytest

from rayflow.policies.pacing import MAX_STEPS, rest_s


@pytest.mark.parametrize("streams", [0, 1, 15])
def test_a_replica_with_few_streams_does_not_rest(streams: int) -> None:
    assert rest_s(streams, 0.01) == 0


def test_the_rest_grows_with_the_streams_and_has_a_limit() -> None:
    rests = [rest_s(streams, 0.01) for streams in range(0, 500)]
    assert rests == sorted(rests)
    assert rests[16] == 0.01
    assert rests[-1] == MAX_STEPS * 0.01


def test_no_flush_interval_means_no_rest() -> None:
    assert rest_s(1000, 0.0) == 0
