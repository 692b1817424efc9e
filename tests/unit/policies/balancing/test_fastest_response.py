"""Slow replicas are avoided before their first slow answer, tried again by single calls, and equals stay equal."""

from __future__ import annotations

import random

import pytest
from replica_doubles import LIMIT, answered, picks, replicas

from rayflow.policies.balancing import Outcome
from rayflow.policies.balancing.fastest_response import FastestResponse
from rayflow.policies.balancing.latency import ALIKE, FirstToken, PeakEwma

DECAY_S = 10.0


def test_a_slow_replica_is_avoided_after_one_slow_answer() -> None:
    three, strategy = replicas(0, 0, 0), FastestResponse(DECAY_S)
    for replica, seconds in zip(three, (0.1, 0.1, 1.6), strict=True):
        answered(strategy, replica, seconds, now=1.0)
    assert picks(strategy, three, now=1.0)[2] == 0


def test_a_call_that_is_out_for_long_is_evidence_before_it_is_answered() -> None:
    three, strategy = replicas(0, 0, 0), FastestResponse(DECAY_S)
    for replica in three:
        answered(strategy, replica, 0.1, now=1.0)
    stuck = three[2]
    stuck.calls, stuck.in_flight = {"x": (1.0, 0)}, 1
    assert picks(strategy, three, now=1.1)[2] > 0
    assert picks(strategy, three, now=1.1 + 0.1 * ALIKE)[2] == 0


def test_differences_that_chance_explains_do_not_count_and_the_fewest_calls_win() -> None:
    three, strategy = replicas(1, 0, 1), FastestResponse(DECAY_S)
    for replica, seconds in zip(three, (0.1, 0.2, 0.12), strict=True):
        answered(strategy, replica, seconds, now=0.1)
    assert picks(strategy, three, now=0.1) == {1: 100}


def test_a_slow_replica_helps_out_when_the_fast_ones_have_much_to_do() -> None:
    two, strategy = replicas(20, 0), FastestResponse(DECAY_S)
    answered(strategy, two[0], 0.1, now=0.1)
    answered(strategy, two[1], 1.6, now=0.1)
    assert picks(strategy, two, now=0.1) == {1: 100}


def test_a_replica_that_was_slow_is_tried_again_by_one_call_at_a_time() -> None:
    two, strategy = replicas(0, 0), FastestResponse(DECAY_S)
    fast, slow = two
    answered(strategy, slow, 1.6, now=0.0)
    for now in range(60):
        answered(strategy, fast, 0.1, float(now))
        if picks(strategy, two, now=now)[1]:
            break
    assert 10 < now < 30, "after e-folding from 16 times to ALIKE times"
    slow.calls, slow.in_flight, slow.load = {"x": (float(now), 0)}, 1, 1
    fast.in_flight = fast.load = 3
    assert picks(strategy, two, now=now) == {0: 100}, "one call is out: it says what to think of the replica"


def test_a_replica_that_healed_is_taken_as_before_after_some_answers() -> None:
    two, strategy = replicas(0, 0), FastestResponse(DECAY_S)
    answered(strategy, two[1], 1.6, now=0.0)
    for second in range(1, 31):
        answered(strategy, two[0], 0.1, float(second))
        answered(strategy, two[1], 0.1, float(second))
    assert picks(strategy, two, now=30.0)[1] > 30


def test_failures_do_not_look_fast() -> None:
    two, strategy = replicas(0, 0), FastestResponse(DECAY_S)
    for replica in two:
        answered(strategy, replica, 0.5, now=1.0)
    for _ in range(50):
        strategy.ended(two[0], Outcome(False, 0.001), 0, 1.0)
    assert picks(strategy, two, now=1.0)[1] > 30


def test_a_new_replica_is_neither_flooded_nor_starved() -> None:
    three, strategy = replicas(1, 1, 0), FastestResponse(DECAY_S)
    for replica in three[:2]:
        answered(strategy, replica, 0.1, now=0.0)
    assert picks(strategy, three, now=0.05) == {2: 100}
    three[2].in_flight = three[2].load = 2
    assert picks(strategy, three, now=0.05)[2] == 0


def test_without_any_answer_the_least_busy_replica_is_taken() -> None:
    assert picks(FastestResponse(DECAY_S), replicas(2, 1, 2)) == {1: 100}


def test_who_left_the_pool_is_forgotten() -> None:
    two, strategy = replicas(0, 0), FastestResponse(DECAY_S)
    for replica in two:
        answered(strategy, replica, 0.1, now=0.0)
    strategy.members(two[:1])
    assert list(strategy._known) == two[:1]


def test_of_a_thousand_replicas_those_that_are_slow_are_avoided_too() -> None:
    many, strategy = replicas(*[0] * 1000), FastestResponse(DECAY_S)
    for replica in many:
        answered(strategy, replica, 1.6 if replica.index < 125 else 0.1, now=1.0)
    assert not any(index < 125 for index in picks(strategy, many, now=1.0))


def test_the_peak_rises_at_once_and_falls_slowly() -> None:
    peak = PeakEwma(0.1, 0.0)
    peak.observe(2.0, 1.0, DECAY_S)
    assert peak.seconds == 2.0
    peak.observe(0.1, 1.0 + DECAY_S, DECAY_S)
    assert peak.seconds == pytest.approx(2.0 * 0.3679 + 0.1 * 0.6321, rel=1e-3)
    assert peak.faded(1.0 + 2 * DECAY_S, DECAY_S) == pytest.approx(peak.seconds * 0.3679, rel=1e-3)


def test_a_whole_answer_counts_by_the_part_that_the_first_token_takes_in_streamed_ones() -> None:
    scale = FirstToken()
    assert scale.of(Outcome(True, 4.0)) == 4.0, "nothing is streamed: whole answers are compared"
    for _ in range(10):
        assert scale.of(Outcome(True, 4.0, 0.4)) == 0.4
    assert scale.part == pytest.approx(0.1)
    assert scale.of(Outcome(True, 4.0)) == pytest.approx(0.4)


def test_long_answers_that_begin_quickly_make_no_replica_slow() -> None:
    two, strategy = replicas(0, 0), FastestResponse(DECAY_S)
    for _ in range(50):
        strategy.ended(two[0], Outcome(True, 20.0, 0.2), 0, 1.0)
        strategy.ended(two[1], Outcome(True, 2.0, 0.2), 0, 1.0)
    assert set(picks(strategy, two, now=1.0)) == {0, 1}


def test_the_choice_repeats_with_the_seed() -> None:
    def chosen(seed: int) -> list[int]:
        rng, strategy, many = random.Random(seed), FastestResponse(DECAY_S), replicas(*[0] * 40)
        return [strategy.choose(many, LIMIT, 0.0, rng, "").index for _ in range(20)]

    assert chosen(1) == chosen(1) != chosen(2)
