"""Strategies that count calls: whom they take, whom never, and that chance repeats with the seed."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from replica_doubles import LIMIT, picks, replicas

from rayflow.policies.balancing.by_load import LeastBusy, PowerOfTwo, Random, RoundRobin

LOADS = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(LOADS, st.integers())
def test_nobody_is_less_busy_than_the_chosen_one(loads: list[int], seed: int) -> None:
    chosen = LeastBusy().choose(replicas(*loads), LIMIT, 0.0, random.Random(seed), "")
    assert chosen.load == min(loads)


def test_chance_spreads_calls_over_equals_and_repeats_with_the_seed() -> None:
    three = replicas(0, 0, 0)
    assert set(picks(LeastBusy(), three)) == {0, 1, 2}
    assert picks(LeastBusy(), three, seed=1) == picks(LeastBusy(), three, seed=1) != picks(LeastBusy(), three, seed=2)


def test_calls_of_other_routers_count_as_well() -> None:
    quiet, busy = replicas(1, 0)
    busy.others, busy.load = 5, 5
    assert LeastBusy().choose([quiet, busy], LIMIT, 0.0, random.Random(1), "") is quiet


@given(LOADS.filter(lambda loads: len(loads) > 1 and loads.count(max(loads)) == 1), st.integers())
def test_power_of_two_never_takes_the_one_busiest_replica(loads: list[int], seed: int) -> None:
    chosen = PowerOfTwo().choose(replicas(*loads), LIMIT, 0.0, random.Random(seed), "")
    assert chosen.load < max(loads)


def test_power_of_two_compares_two_different_replicas_each_as_often_as_any_other() -> None:
    found = picks(PowerOfTwo(), replicas(0, 1, 2, 3), times=6000)
    assert found[3] == 0
    for index, pairs_won in ((0, 3), (1, 2), (2, 1)):
        assert abs(found[index] - 6000 * pairs_won / 6) < 150


def test_power_of_two_of_one_is_that_one() -> None:
    assert picks(PowerOfTwo(), replicas(7)) == {0: 100}


def test_random_takes_all_alike_whatever_they_do() -> None:
    found = picks(Random(), replicas(0, 50, 99), times=3000)
    assert all(abs(count - 1000) < 120 for count in found.values())


@given(st.integers(1, 6), st.integers())
def test_round_robin_takes_each_once_in_a_round(size: int, seed: int) -> None:
    assert picks(RoundRobin(), replicas(*[0] * size), times=3 * size, seed=seed) == dict.fromkeys(range(size), 3)


def test_round_robin_goes_on_behind_one_that_is_missing() -> None:
    four, strategy, rng = replicas(0, 0, 0, 0), RoundRobin(), random.Random(1)
    first = strategy.choose(four, LIMIT, 0.0, rng, "").index
    rest = [replica for replica in four if replica.index != (first + 1) % 4]
    assert strategy.choose(rest, LIMIT, 0.0, rng, "").index == (first + 2) % 4
    assert strategy.choose(four, LIMIT, 0.0, rng, "").index == (first + 3) % 4


def test_routers_do_not_go_round_in_step() -> None:
    three = replicas(0, 0, 0)
    begun = {RoundRobin().choose(three, LIMIT, 0.0, random.Random(seed), "").index for seed in range(20)}
    assert begun == {0, 1, 2}
