"""Shares by weight, one call after the other; and nobody is buried for the sake of its share."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from replica_doubles import LIMIT, picks, replicas

from rayflow.policies.balancing.weighted import Weighted


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers())
def test_calls_are_shared_by_weight(weights: list[int], seed: int) -> None:
    found = picks(Weighted(), replicas(*[0] * len(weights), weights=weights), times=5 * sum(weights), seed=seed)
    for index, weight in enumerate(weights):
        assert abs(found[index] - 5 * weight) <= 1 + len(weights), (weights, found)


def test_calls_alternate_smoothly() -> None:
    two, strategy, rng = replicas(0, 0, weights=(3, 1)), Weighted(), random.Random(1)
    order = [strategy.choose(two, LIMIT, 0.0, rng, "").index for _ in range(40)]
    assert all(order[i : i + 4].count(1) == 1 for i in range(4, 36, 4))


def test_a_heavy_replica_that_does_not_keep_up_is_passed_over() -> None:
    two = replicas(7, 0, weights=(3, 1))
    assert picks(Weighted(), two) == {1: 100}


def test_nobody_saves_up_turns_while_it_is_away() -> None:
    two, strategy = replicas(0, 0), Weighted()
    picks(strategy, two[:1], times=1000)
    assert picks(strategy, two, times=20)[1] <= 11
