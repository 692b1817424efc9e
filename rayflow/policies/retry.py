"""Whether what failed is tried again, and after how long: a call of a model, and a part of a run whose replica died.

The default is exponential back-off with full jitter: the n-th wait is uniform between 0 and base_delay_s x 2^n, at most
max_delay_s, so callers that failed together do not return together. An endpoint that names a wait is obeyed: the
strategy's own wait comes on top of it.
Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf

from rayflow.config.schema import Retries
from rayflow.errors import ModelError, WorkflowError
from rayflow.policies.own import Fence, is_own, load

Pause = Callable[[int, Retries, random.Random], float]
"""Seconds to wait after the n-th failure, counted from 1."""


def decide(
    attempt: int, error: WorkflowError, policy: Retries, left_s: float, rng: random.Random, pause: Pause | None = None
) -> float | None:
    """Seconds to wait before the next call, or None to give up and raise `error`.

    `attempt`: calls made so far, 1 after the first. `left_s`: seconds until the run's deadline; a wait that would not
    end before it is not begun. `pause`: what `pauses` made of the policy's strategy, where that is a user's.
    """
    if attempt >= policy.max_attempts or not _worth_repeating(error):
        return None
    wait_s = (pause or pause_s)(attempt, policy, rng) + (error.retry_after_s or 0.0)
    return wait_s if wait_s < left_s else None


def pause_s(attempt: int, policy: Retries, rng: random.Random) -> float:
    """What the built-in strategies wait; exponential where the strategy is none of them."""
    match policy.strategy:
        case "simple":
            return 0.0
        case "fixed":
            wait_s = policy.base_delay_s
        case _:
            wait_s = min(policy.base_delay_s * 2.0**attempt, policy.max_delay_s)
    match policy.jitter:
        case "full":
            return rng.uniform(0.0, wait_s)
        case "tenth":
            return wait_s * rng.uniform(1.0, 1.1)
        case "none":
            return wait_s


def pauses(policy: Retries, key: str) -> Pause:
    """The policy's strategy: a built-in one, or a user's function, which is called as `pause_s` is. Where that raises
    or returns no number of seconds, exponential decides. `key`: of the strategy in the configuration.

    Raises `ConfigurationError` where it cannot be loaded.
    """
    if not is_own(policy.strategy):
        return pause_s
    own: Pause = load(policy.strategy, policy.options, key)
    fence = Fence(policy.strategy, "exponential")

    def checked(attempt: int, policy: Retries, rng: random.Random) -> float:
        wait_s = float(own(attempt, policy, rng))
        if not 0.0 <= wait_s < inf:
            raise ValueError(f"{wait_s} is no number of seconds to wait")
        return wait_s

    return lambda *arguments: fence.call(checked, pause_s, *arguments)


def safe_to_repeat(delivered: int | None, *, side_effects: bool = False) -> bool:
    """Whether a part whose replica died may be asked of another one.

    `delivered`: pieces of its answer that the client has, None where nobody knows: another replica would say something
    else. `side_effects`: the step has a tool that changes the world and is not declared idempotent: the dead replica
    may have called it. A model call alone has no effect but its cost.
    """
    return delivered == 0 and not side_effects


def _worth_repeating(error: WorkflowError) -> bool:
    """Faults of an endpoint that may pass by themselves, before they left anything of an answer behind."""
    return isinstance(error, ModelError) and error.retryable and not error.details.get("partial")
