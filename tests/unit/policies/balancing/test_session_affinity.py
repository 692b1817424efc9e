"""A session keeps its replica; when the pool changes, only those sessions move that have to; and nobody is overrun."""

from __future__ import annotations

import random
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st
from replica_doubles import LIMIT, picks, replicas

from rayflow.policies.balancing import Replica
from rayflow.policies.balancing.session_affinity import SessionAffinity

SESSIONS = [f"sess_{i}" for i in range(400)]


def homes(pool: list[Replica], sessions: list[str] = SESSIONS) -> dict[str, str]:
    """Where sessions belong while nothing is to do."""
    strategy = SessionAffinity(1.25)
    strategy.members(pool)
    rng = random.Random(1)
    return {key: strategy.choose(pool, LIMIT, 0.0, rng, key).address for key in sessions}


def test_a_session_has_one_home_whatever_chance_says() -> None:
    strategy, four = SessionAffinity(1.25), replicas(0, 0, 0, 0)
    strategy.members(four)
    assert len(picks(strategy, four, key="sess_1")) == 1


def test_every_router_knows_the_same_home() -> None:
    assert homes(replicas(0, 0, 0)) == homes(replicas(0, 0, 0))


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 30), min_size=2, max_size=12), st.data())
def test_when_a_replica_leaves_only_its_own_sessions_move(numbers: set[int], data: st.DataObject) -> None:
    pool = [Replica(f"agent/a/{i}", i) for i in sorted(numbers)]
    gone = data.draw(st.sampled_from(pool))
    before = homes(pool)
    after = homes([replica for replica in pool if replica is not gone])
    assert all(after[key] == home for key, home in before.items() if home != gone.address)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 30), min_size=1, max_size=12), st.integers(31, 60))
def test_when_a_replica_comes_sessions_move_only_to_it_and_not_many(numbers: set[int], newcomer: int) -> None:
    pool = [Replica(f"agent/a/{i}", i) for i in sorted(numbers)]
    before, after = homes(pool), homes([*pool, Replica(f"agent/a/{newcomer}", newcomer)])
    moved = [key for key in SESSIONS if before[key] != after[key]]
    assert all(after[key] == f"agent/a/{newcomer}" for key in moved)
    assert len(moved) <= 2 * len(SESSIONS) / (len(pool) + 1)


def test_sessions_are_spread_over_the_pool() -> None:
    counts: dict[str, int] = {}
    for home in homes(replicas(*[0] * 8), [f"sess_{i}" for i in range(4000)]).values():
        counts[home] = counts.get(home, 0) + 1
    assert min(counts.values()) > 350 and max(counts.values()) < 700, counts


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 10), st.floats(1.0, 3.0), st.lists(st.integers(0, 5), min_size=20, max_size=150))
def test_no_replica_gets_more_than_the_balance_factor_times_the_mean(
    size: int, factor: float, sessions: list[int]
) -> None:
    pool, strategy, rng = replicas(*[0] * size), SessionAffinity(factor), random.Random(1)
    strategy.members(pool)
    for calls, session in enumerate(sessions, start=1):
        chosen = strategy.choose(pool, LIMIT, 0.0, rng, f"sess_{session}")
        chosen.load += 1
        assert chosen.load <= ceil(factor * calls / size)


def test_a_session_whose_home_may_take_no_call_goes_to_the_same_second_one_and_back() -> None:
    strategy, four = SessionAffinity(1.25), replicas(0, 0, 0, 0)
    strategy.members(four)
    rng = random.Random(1)
    home = strategy.choose(four, LIMIT, 0.0, rng, "sess_1")
    rest = [replica for replica in four if replica is not home]
    assert len(picks(strategy, rest, key="sess_1")) == 1
    assert strategy.choose(four, LIMIT, 0.0, rng, "sess_1") is home


def test_a_call_without_a_session_goes_to_the_least_busy() -> None:
    strategy, three = SessionAffinity(1.25), replicas(2, 1, 2)
    strategy.members(three)
    assert picks(strategy, three) == {1: 100}


def test_when_nearly_all_are_full_the_search_ends() -> None:
    strategy, many = SessionAffinity(1.25), replicas(*[0] * 300)
    strategy.members(many)
    assert picks(strategy, many[7:8], times=20, key="sess_1") == {7: 20}
