"""A model that fails is left alone, tried by one call at a time, and called again when that is answered."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rayflow.config.schema import BreakerConfig
from rayflow.errors import (
    Cancelled,
    DeadlineExceeded,
    ModelError,
    ModelIncomplete,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    Overloaded,
    PeerLost,
)
from rayflow.policies.breaker import JITTER, Breaker, Verdict, verdict

CONFIG = BreakerConfig(consecutive_failures=3, min_calls=10, window_s=10.0, open_s=10.0, max_open_s=35.0)
RNG = random.Random(1)


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker(CONFIG)
    assert [breaker.failed(now) for _ in range(3)] == [False, False, True]
    return breaker


def probing(breaker: Breaker, now: float) -> Breaker:
    assert breaker.allow(now, RNG) == "probe"
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not_let_them() -> None:
    breaker = Breaker(CONFIG)
    for _ in range(3):
        breaker.failed(100.0)
        breaker.failed(100.0)
        breaker.succeeded(100.0)
    assert breaker.state == "closed"
    assert opened().state == "open"


def test_a_share_of_failures_opens_it_once_there_are_enough_calls() -> None:
    breaker = Breaker(CONFIG)
    for call in range(4):
        breaker.succeeded(100.0 + call)
        assert not breaker.failed(100.0 + call)
    breaker.succeeded(104.0)
    assert breaker.failed(104.0), "5 of 10"


def test_failures_that_are_too_old_do_not_count() -> None:
    breaker = Breaker(CONFIG)
    for _ in range(4):
        breaker.failed(100.0)
        breaker.succeeded(100.0)
    for _ in range(2):
        breaker.succeeded(111.0)
        assert not breaker.failed(111.0)
    assert breaker.state == "closed"


def test_of_several_endpoints_one_that_fails_is_not_the_model() -> None:
    breaker = Breaker(CONFIG, endpoints=4)
    assert not any(breaker.failed(100.0) for _ in range(9))
    assert Breaker(CONFIG, endpoints=3).allow(100.0, RNG) == "call"


def test_while_it_is_open_nobody_calls_and_everybody_learns_when_to_come_back() -> None:
    breaker = opened(100.0)
    wait_s = breaker.allow(100.0, RNG)
    assert isinstance(wait_s, float)
    assert 10.0 <= wait_s <= 10.0 * (1 + JITTER)
    assert breaker.allow(104.0, RNG) == pytest.approx(wait_s - 4.0), "drawn once"
    assert breaker.allow(100.0 + wait_s, RNG) == "probe"


def test_pauses_differ_between_routers() -> None:
    waits = {opened().allow(100.0, random.Random(seed)) for seed in range(10)}
    assert len(waits) == 10


def test_then_a_single_call_tries_it_and_its_answer_closes_it() -> None:
    breaker = probing(opened(100.0), 111.0)
    assert [breaker.allow(111.0 + i, RNG) for i in range(5)] == [1.0] * 5
    assert breaker.succeeded(116.0, probe=True)
    assert [breaker.allow(116.0, RNG) for _ in range(5)] == ["call"] * 5
    assert not breaker.failed(116.0), "what was before is forgotten"


def test_a_failed_probe_doubles_the_pause_up_to_its_limit_and_a_good_one_ends_that() -> None:
    breaker, now = opened(0.0), 0.0
    pauses = []
    for _ in range(4):
        now += 1000.0
        assert probing(breaker, now).failed(now, probe=True)
        pauses.append(breaker.open_s)
        wait_s = breaker.allow(now, RNG)
        assert isinstance(wait_s, float)
        assert breaker.open_s <= wait_s <= breaker.open_s * (1 + JITTER)
    assert pauses == [20.0, 35.0, 35.0, 35.0]
    probing(breaker, now + 1000.0).succeeded(now + 1000.0, probe=True)
    assert breaker.open_s == 10.0


def test_a_probe_that_was_cancelled_gives_its_place_back() -> None:
    breaker = probing(opened(100.0), 111.0)
    breaker.released(probe=True)
    assert probing(breaker, 111.0).state == "half-open"


def test_calls_from_before_the_pause_say_nothing_afterwards() -> None:
    breaker = opened(100.0)
    assert not breaker.failed(101.0)
    assert not breaker.succeeded(101.0)
    assert breaker.state == "open"
    probing(breaker, 111.0).succeeded(112.0, probe=True)
    assert not any(breaker.failed(120.0, begun=99.0) for _ in range(20)), "they waited long for a dead endpoint"
    assert [breaker.failed(120.0, begun=113.0) for _ in range(3)] == [False, False, True]


def test_an_endpoint_that_names_a_wait_is_left_alone_for_it_and_called_again_without_a_probe() -> None:
    breaker = Breaker(CONFIG)
    assert breaker.cool(100.0, 2.0)
    assert not breaker.cool(100.0, 1.0), "no news, and no shorter"
    assert (breaker.allow(100.5, RNG), breaker.calls(100.5), breaker.state) == (1.5, False, "closed")
    assert [breaker.allow(102.0, RNG) for _ in range(2)] == ["call", "call"]
    breaker.cool(102.0, 1e9)
    assert breaker.allow(102.0, RNG) == 35.0, "nobody shuts us out for days"


def test_a_breaker_that_is_off_lets_everything_pass() -> None:
    breaker = Breaker(BreakerConfig(enabled=False, consecutive_failures=1))
    assert not any(breaker.failed(100.0) for _ in range(100))
    assert not breaker.cool(100.0, 5.0)
    assert breaker.allow(100.0, RNG) == "call"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModelError("reset"), "failed"),
        (ModelError("x", upstream_status=500), "failed"),
        (ModelError("x", upstream_status=408), "failed"),
        (ModelError("x", upstream_status=409), "answered"),
        (ModelTimeout("x", phase="first_token"), "failed"),
        (ModelIncomplete("x"), "failed"),
        (ModelRejected("x", upstream_status=400), "answered"),
        (ModelRateLimited("x", retry_after_s=1), "unknown"),
        (PeerLost("x"), "unknown"),
        (Overloaded("x"), "unknown"),
        (Cancelled("x"), "unknown"),
        (KeyError("x"), "unknown"),
    ],
)
def test_only_what_speaks_of_the_endpoint_counts(error: Exception, said: Verdict) -> None:
    assert verdict(error, 0.1, 5.0) == said


@pytest.mark.parametrize("error", [ModelTimeout("x", phase="total"), DeadlineExceeded("x")])
def test_a_client_in_a_hurry_proves_nothing(error: Exception) -> None:
    assert verdict(error, 4.9, 5.0) == "unknown"
    assert verdict(error, 5.0, 5.0) == "failed"


class Calls(RuleBasedStateMachine):
    """Calls come, end and are cancelled in any order, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(CONFIG)
        self.rng = random.Random(7)
        self.now = 1000.0
        self.open: list[tuple[bool, float]] = []

    @rule(seconds=st.sampled_from([0.0, 0.3, 5.0, 12.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        before, all_may = self.breaker.state, self.breaker.calls(self.now)
        allowed = self.breaker.allow(self.now, self.rng)
        if isinstance(allowed, float):
            assert not all_may
            assert 0 < allowed <= 35.0 * (1 + JITTER)
            if any(probe for probe, _ in self.open):
                return
            self.now += allowed + 1e-9
            allowed = self.breaker.allow(self.now, self.rng)
        assert allowed == ("call" if before == "closed" else "probe"), "after the wait it named"
        self.open.append((allowed == "probe", self.now))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1000), how=st.sampled_from(["succeeded", "failed", "released", "cooled"]))
    def end(self, which: int, how: str) -> None:
        probe, begun = self.open.pop(which % len(self.open))
        before = self.breaker.state
        match how:
            case "succeeded":
                assert self.breaker.succeeded(self.now, probe) == probe
            case "failed":
                assert self.breaker.failed(self.now, probe, begun) == (self.breaker.state == "open" != before)
            case _:
                self.breaker.released(probe)
                if how == "cooled":
                    self.breaker.cool(self.now, 1.5)

    @invariant()
    def holds(self) -> None:
        self.breaker.validate()
        assert sum(probe for probe, _ in self.open) <= 1, "one probe at most"
        assert not any(probe for probe, _ in self.open) or self.breaker.state == "half-open"


TestAnyOrderOfCalls = Calls.TestCase


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_a_dead_model_is_called_a_handful_of_times_however_many_ask(seed: int, every_s: float) -> None:
    breaker, source, called = Breaker(BreakerConfig()), random.Random(seed), 0
    asked = int(60 / every_s)
    for i in range(asked):
        now = 100.0 + i * every_s
        allowed = breaker.allow(now, source)
        if isinstance(allowed, str):
            called += 1
            breaker.failed(now, allowed == "probe", now)
    assert called <= 5 + 3, "five until it opens, a probe after 10 and 30 s"
