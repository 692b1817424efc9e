"""Hot replicas are taken only when all are hot; among cold ones latency decides, then the fewest calls."""

from __future__ import annotations

import random

from replica_doubles import LIMIT, answered, picks, replicas

from rayflow.policies.balancing.prequal import Levels, Prequal

DECAY_S = 10.0


def prequal(quantile: float = 0.84) -> Prequal:
    return Prequal(quantile, DECAY_S)


def test_among_cold_replicas_the_quick_one_is_taken_though_it_has_more_calls() -> None:
    five, strategy = replicas(3, 1, 1, 1, 9), prequal()
    for replica in five:
        answered(strategy, replica, 0.1 if replica.index in (0, 4) else 2.0, now=0.05, met=replica.load)
    picks(strategy, five, times=200, now=0.05)  # it sees which loads there are
    assert picks(strategy, five, now=0.05) == {0: 100}


def test_a_hot_replica_is_not_taken_however_quick_it_was() -> None:
    five, strategy = replicas(1, 1, 1, 1, 9), prequal(0.5)
    for replica in five:
        answered(strategy, replica, 0.01 if replica.index == 4 else 1.0, now=0.1, met=replica.load)
    assert picks(strategy, five, now=0.1)[4] == 0


def test_when_all_are_hot_the_fewest_calls_win() -> None:
    cold, strategy = replicas(0, 0, 0), prequal()
    picks(strategy, cold, times=128)
    assert picks(strategy, replicas(30, 20, 25), times=1) == {1: 1}


def test_a_replica_that_just_became_slow_is_avoided_before_it_answers() -> None:
    three, strategy = replicas(1, 1, 1), prequal()
    for replica in three:
        answered(strategy, replica, 0.1, now=5.0, met=1)
        replica.calls = {"x": (5.0, 0)}
    three[0].calls = {"x": (1.0, 0)}
    assert picks(strategy, three, now=5.05)[0] == 0


def test_a_slow_replica_is_tried_again_after_a_while() -> None:
    two, strategy = replicas(0, 0), prequal()
    answered(strategy, two[1], 1.6, now=0.0)
    answered(strategy, two[0], 0.1, now=0.0)
    assert picks(strategy, two, now=0.1)[1] == 0
    answered(strategy, two[0], 0.1, now=30.0)
    assert picks(strategy, two, now=30.0)[1] > 0


def test_latency_is_known_for_about_the_present_load() -> None:
    levels = Levels()
    levels.observe(0.1, 0, 1.0, DECAY_S)
    levels.observe(0.9, 12, 1.0, DECAY_S)
    assert levels.value(0, False, 1.0, DECAY_S) == 0.1
    assert levels.value(9, False, 1.0, DECAY_S) == 0.9
    assert levels.value(3, False, 1.0, DECAY_S) == 0.9, "nothing is known of 3: the latest answer"


def test_of_a_thousand_replicas_a_handful_is_looked_at() -> None:
    many, strategy = replicas(*[0] * 1000), prequal()
    for replica in many:
        answered(strategy, replica, 1.6 if replica.index < 125 else 0.1, now=1.0)
    found = picks(strategy, many, times=500, now=1.0)
    assert not any(index < 125 for index in found)
    assert len(found) > 300


def test_its_choices_repeat_with_the_seed() -> None:
    def chosen(seed: int) -> list[int]:
        rng, strategy, many = random.Random(seed), prequal(), replicas(*[0] * 40)
        return [strategy.choose(many, LIMIT, 0.0, rng, "").index for _ in range(20)]

    assert chosen(1) == chosen(1) != chosen(2)
