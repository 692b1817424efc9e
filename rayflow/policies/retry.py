"""Whether what failed is tried again, and after how long: a model call by its replica, and a part of a run by its
router when the replica died.

Exponential back-off with full jitter: the n-th wait is uniform between 0 and base_delay_s x 2^n, at most max_delay_s,
so callers that failed together do not return together. An endpoint that names a wait is obeyed: the jitter comes on
top of it.
Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random

from rayflow.config.schema import Retries
from rayflow.errors import ModelError, WorkflowError


def decide(
    attempt: int, error: WorkflowError, policy: Retries, left_s: float, rng: random.Random, *, started: bool = False
) -> float | None:
    """Seconds to wait before the next call, or None to give up and raise `error`.

    `attempt`: calls made so far, 1 after the first. `left_s`: seconds until the run's deadline; a wait that would not
    end before it is not begun. `started`: a piece of the answer has already gone out, so another call could only
    repeat it.
    """
    if attempt >= policy.max_attempts or started or not _worth_repeating(error):
        return None
    wait_s = backoff_s(attempt, rng, policy.base_delay_s, policy.max_delay_s) + (error.retry_after_s or 0.0)
    return wait_s if wait_s < left_s else None


def backoff_s(attempt: int, rng: random.Random, base_s: float = 0.1, max_s: float = 1.0) -> float:
    """Seconds to wait after the `attempt`-th failure, counted from 1."""
    return rng.uniform(0.0, min(base_s * 2.0**attempt, max_s))


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
