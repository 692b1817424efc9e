"""Retries wait a random, bounded time, obey the endpoint, and never repeat what a client has already seen."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import Retries
from rayflow.errors import (
    Cancelled,
    DeadlineExceeded,
    ModelError,
    ModelIncomplete,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ValidationError,
    WorkflowError,
)
from rayflow.policies.retry import backoff_s, decide, safe_to_repeat

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
def test_faults_that_may_pass_are_retried_before_the_first_output_only(error: WorkflowError) -> None:
    assert decide(1, error, POLICY, FOREVER, rng()) is not None
    assert decide(1, error, POLICY, FOREVER, rng(), started=True) is None


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


def test_back_off_doubles_up_to_its_limit() -> None:
    rng = random.Random(1)
    longest = [max(backoff_s(attempt, rng) for _ in range(2000)) for attempt in (1, 2, 3, 9)]
    assert longest == pytest.approx([0.2, 0.4, 0.8, 1.0], rel=0.02)
