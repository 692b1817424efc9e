"""Retries wait a random, bounded time, obey the endpoint, and never repeat what a client has already seen."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import Retries
from rayflow.errors import (
    Cancelled,
    ConfigurationError,
    DeadlineExceeded,
    ModelError,
    ModelIncomplete,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ValidationError,
    WorkflowError,
)
from rayflow.policies.retry import decide, pause_s, pauses, safe_to_repeat

POLICY = Retries(max_attempts=4, base_delay_s=0.1, max_delay_s=0.5)
FOREVER = 1e9


def rng(seed: int = 1) -> random.Random:
    return random.Random(seed)


@given(st.integers(1, 3), st.integers())
def test_a_wait_is_within_full_jitter(attempt: int, seed: int) -> None:
    wait_s = decide(attempt, ModelError("x"), POLICY, FOREVER, rng(seed))
    assert wait_s is not None
    assert 0 <= wait_s <= min(0.1 * 2**attempt, 0.5)


def test_waits_differ_between_callers_and_repeat_with_the_seed() -> None:
    waits = [decide(1, ModelError("x"), POLICY, FOREVER, rng(seed)) for seed in (1, 2, 1)]
    assert waits[0] == waits[2] != waits[1]


def test_attempts_are_counted_with_the_first_call() -> None:
    assert decide(3, ModelError("x"), POLICY, FOREVER, rng()) is not None
    assert decide(4, ModelError("x"), POLICY, FOREVER, rng()) is None
    assert decide(1, ModelError("x"), Retries(max_attempts=1), FOREVER, rng()) is None


@given(st.floats(0, 100), st.integers())
def test_retry_after_is_obeyed(asked_s: float, seed: int) -> None:
    wait_s = decide(1, ModelRateLimited("x", retry_after_s=asked_s), POLICY, FOREVER, rng(seed))
    assert wait_s is not None
    assert asked_s <= wait_s <= asked_s + 0.2


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    assert decide(1, ModelRateLimited("x", retry_after_s=5), POLICY, 5.0, rng()) is None
    assert decide(1, ModelError("x"), POLICY, 0.0, rng()) is None
    assert decide(1, ModelError("x"), POLICY, -1.0, rng()) is None


@pytest.mark.parametrize(
    "error", [ModelError("x"), ModelTimeout("x"), ModelIncomplete("x", partial=""), ModelRateLimited("x")]
)
def test_faults_that_may_pass_are_retried(error: WorkflowError) -> None:
    assert decide(1, error, POLICY, FOREVER, rng()) is not None


@pytest.mark.parametrize(
    "error",
    [
        ModelRejected("x"),
        ModelIncomplete("x", partial="some text"),
        ModelTimeout("x", partial="some text"),
        ValidationError("x"),
        Cancelled("x"),
        DeadlineExceeded("x"),
    ],
)
def test_other_faults_are_never_retried(error: WorkflowError) -> None:
    assert decide(1, error, POLICY, FOREVER, rng()) is None


@pytest.mark.parametrize(
    ("delivered", "side_effects", "safe"),
    [(0, False, True), (1, False, False), (None, False, False), (0, True, False), (3, True, False)],
)
def test_only_what_left_no_trace_is_safe_to_repeat(delivered: int | None, side_effects: bool, safe: bool) -> None:
    assert safe_to_repeat(delivered, side_effects=side_effects) is safe


def longest(policy: Retries, *attempts: int) -> list[float]:
    source = random.Random(1)
    return [max(pause_s(attempt, policy, source) for _ in range(2000)) for attempt in attempts]


def test_back_off_doubles_up_to_its_limit() -> None:
    assert longest(Retries(), 1, 2, 3, 9) == pytest.approx([0.2, 0.4, 0.8, 1.0], rel=0.02)


def test_a_simple_retry_waits_for_nothing_but_what_the_endpoint_asks_for() -> None:
    simple = Retries(strategy="simple", base_delay_s=5.0)
    assert decide(1, ModelError("x"), simple, FOREVER, rng()) == 0.0
    assert decide(1, ModelRateLimited("x", retry_after_s=2), simple, FOREVER, rng()) == 2.0


def test_a_fixed_retry_waits_the_same_each_time() -> None:
    fixed = Retries(strategy="fixed", base_delay_s=1.0, jitter="none")
    assert longest(fixed, 1, 2, 9) == [1.0, 1.0, 1.0]


def test_an_exponential_retry_without_jitter_is_a_power_of_two() -> None:
    powers = Retries(base_delay_s=1.0, max_delay_s=10.0, jitter="none")
    assert longest(powers, 1, 2, 3, 4) == [2.0, 4.0, 8.0, 10.0]


@given(st.integers(1, 9), st.integers(), st.sampled_from(["fixed", "exponential"]))
def test_a_tenth_of_jitter_only_lengthens_a_wait(attempt: int, seed: int, strategy: Literal["fixed"]) -> None:
    policy = Retries(strategy=strategy, base_delay_s=1.0, max_delay_s=10.0, jitter="tenth")
    exact = pause_s(attempt, policy.model_copy(update={"jitter": "none"}), rng(seed))
    assert exact <= pause_s(attempt, policy, rng(seed)) <= 1.1 * exact


def own(tmp_path: Path, body: str) -> Retries:
    """A policy of one's own, with an option."""
    file = tmp_path / "waits.py"
    file.write_text(f"def mine(attempt, policy, rng, *, factor):\n    {body}\n")
    return Retries(strategy=f"{file}:mine", options={"factor": 3.0}, base_delay_s=1.0, max_delay_s=8.0, jitter="none")


def test_a_policy_of_ones_own_says_how_long(tmp_path: Path) -> None:
    policy = own(tmp_path, "return factor * attempt * policy.base_delay_s")
    pause = pauses(policy, "models.m.retries.strategy")
    assert decide(2, ModelError("x"), policy.model_copy(update={"max_attempts": 9}), FOREVER, rng(), pause) == 6.0


@pytest.mark.parametrize("body", ["raise KeyError(attempt)", "return -1", "return float('nan')", "return None"])
def test_where_it_does_not_exponential_decides(tmp_path: Path, body: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = own(tmp_path, body)
    assert pauses(policy, "models.m.retries.strategy")(2, policy, rng()) == 4.0
    assert "exponential decides" in caplog.text


def test_one_that_is_not_there_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    policy = own(tmp_path, "pass")
    with pytest.raises(ConfigurationError, match="other"):
        pauses(policy.model_copy(update={"strategy": policy.strategy.replace(":mine", ":other")}), "models.m.x")
