from __future__ import annotations

import random

import pytest
from faults.pacing import DEATHS, WINDOW_S, Pacer


def pacer(seed: int = 1) -> Pacer:
    return Pacer(random.Random(seed))


def test_the_same_seed_hurts_the_same_victims() -> None:
    victims = ["router/0", "router/1", "router/2"]
    one, other = pacer(7), pacer(7)
    assert [one.choose(victims, t) for t in range(7)] == [other.choose(victims, t) for t in range(7)]


def test_a_pool_is_spared_once_it_died_as_often_as_it_may() -> None:
    own = pacer()
    assert own.wait_s(["session/0"], 0.0) == 0.0
    for now in range(DEATHS):
        own.choose(["session/0"], float(now))
    assert own.wait_s(["session/0"], 10.0) == WINDOW_S - 10.0
    with pytest.raises(ValueError, match="yet"):
        own.choose(["session/0"], 10.0)
    assert own.wait_s(["session/0"], WINDOW_S) == 0.0


def test_each_further_member_of_a_pool_adds_one_death() -> None:
    own, pool = pacer(), ["router/0", "router/1"]
    for now in range(DEATHS + 1):
        assert own.wait_s(pool, float(now)) == 0.0
        own.choose(pool, float(now))
    assert own.wait_s(pool, 6.0) > 0


def test_another_pool_is_hurt_while_one_is_spared() -> None:
    own, pools = pacer(), ["agent/alpha/0", "agent/beta/0"]
    for now in range(DEATHS):
        own.choose(pools[:1], float(now))
    assert own.wait_s(pools, 6.0) == 0.0
    assert {own.choose(pools, float(now)) for now in (6, 7, 8)} == {"agent/beta/0"}


def test_no_window_ever_holds_more_deaths_than_allowed() -> None:
    own, now = pacer(3), 0.0
    deaths: list[float] = []
    for _ in range(40):
        now += own.wait_s(["eventlog/0"], now) + 0.5
        own.choose(["eventlog/0"], now)
        deaths.append(now)
    assert all(late - early >= WINDOW_S for early, late in zip(deaths, deaths[DEATHS:], strict=False))
