"""The models as one router knows them: which are called at present, and how often a failed call may be repeated.

A gate is one entry of `models` with its circuit breaker, its retry budget and the times its answers take. All calls of
a model that this router has made go through its gate, whatever agent and replica makes them, so a failure that one
agent meets spares the others. Routers learn on their own: a breaker needs no message to open, and each router sends a
probe of its own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

from rayflow.clock import Clock
from rayflow.config.schema import ModelConfig, WorkflowConfig
from rayflow.errors import CircuitOpen, ModelError, ModelRateLimited, WorkflowError, to_info
from rayflow.policies.breaker import Breaker, State, verdict
from rayflow.policies.budget import RetryBudget
from rayflow.policies.hedging import Hedging
from rayflow.policies.prices import entry_of
from rayflow.policies.retry import decide, pauses


@dataclass(slots=True)
class Permit:
    """One call that may be made. `begun`: when it was sent, in monotonic seconds."""

    probe: bool
    begun: float


class Change(NamedTuple):
    """What a call has changed for all others: an event of this kind."""

    kind: str
    error: str
    data: dict[str, Any]


class Gate:
    """Raises `ConfigurationError` where a policy of one's own cannot be loaded."""

    def __init__(self, model: ModelConfig, config: WorkflowConfig, clock: Clock, rng: random.Random) -> None:
        endpoints = len(model.base_url) if isinstance(model.base_url, list) else 1
        limits = [agent.timeout_s for agent in config.agents if agent.timeout_s is not None]
        longest_s = min([config.processing.request_timeout_s, *limits])
        self.name = model.name
        self.entry = entry_of(model)
        self._hedging = Hedging(config.resilience.hedging)
        self._breaker = Breaker(config.resilience.breaker, max(endpoints, 1))
        self._budget = budget(config)
        self._retries = model.retries
        self._pause = pauses(model.retries, f"models.{model.name}.retries.strategy")
        self._patience_s = min(model.timeouts.first_token_s, longest_s / 2)  # the rest of it may go into waiting
        self._opened_at = 0.0
        self._cause = ""
        self._clock = clock
        self._rng = rng

    @property
    def state(self) -> State:
        """Of its breaker."""
        return self._breaker.state

    def enter(self, *, again: bool = False) -> Permit:
        """Make a call; `leave` must follow exactly once. `again`: it repeats one.

        Raises `CircuitOpen`, or `ModelRateLimited` while the endpoint wants to be left alone.
        """
        now = self._clock.now()
        permit = Permit(self._probes(now), now)
        if not again:
            self._budget.request(now)
        return permit

    def begin(self, permit: Permit, waited_s: float) -> None:
        """The call goes out, after `waited_s` in line. Raises as `enter` does: others may have failed meanwhile."""
        permit.begun = self._clock.now()
        if waited_s and not permit.probe:
            permit.probe = self._probes(permit.begun)

    def leave(self, permit: Permit, error: BaseException | None) -> Change | None:
        """The call ended: well, or with this error."""
        now = self._clock.now()
        if error is None:
            self._hedging.observed(now - permit.begun)
            return self._answered(permit, now)
        match verdict(error, now - permit.begun, self._patience_s):
            case "answered":
                return self._answered(permit, now)
            case "failed":
                return self._failed(permit, to_info(error).slug, now)
            case "unknown":
                self._breaker.released(permit.probe)
        if isinstance(error, ModelRateLimited) and self._breaker.cool(now, error.retry_after_s or 0.0):
            return Change("breaker.cooling", error.slug, {"wait_s": error.retry_after_s})
        return None

    def wait_s(self, error: ModelError, calls: int, left_s: float, *, last: bool) -> float | None:
        """Seconds after which a call that failed is repeated, out of the budget; None: it is not.

        `calls`: made so far. `last`: there is no other model to turn to while this one is not called.
        """
        now = self._clock.now()
        if not self._breaker.calls(now) and (not last or self._breaker.state != "closed"):
            return None
        wait_s = decide(calls, error, self._retries, left_s, self._rng, self._pause)
        return wait_s if wait_s is not None and self._budget.retry(now) else None

    def blames(self, permit: Permit, error: WorkflowError) -> bool:
        """Whether this error of a call is the fault of who was called."""
        return verdict(error, self._clock.now() - permit.begun, self._patience_s) == "failed"

    def hedge_s(self) -> float | None:
        """Seconds after which a call is made a second time; None: never."""
        return self._hedging.wait_s() if self._breaker.calls(self._clock.now()) else None

    def may_hedge(self) -> bool:
        """Take a second call out of the budget."""
        now = self._clock.now()
        return self._breaker.calls(now) and self._budget.retry(now)

    def _probes(self, now: float) -> bool:
        allowed = self._breaker.allow(now, self._rng)
        if isinstance(allowed, str):
            return allowed == "probe"
        about = {"model": self.name, "retry_after_s": max(round(allowed, 3), 0.001)}
        if self._breaker.state == "closed":
            raise ModelRateLimited(f"model {self.name!r} asked not to be called for another {allowed:.3g} s", **about)
        raise CircuitOpen(
            f"model {self.name!r} keeps failing ({self._cause}) and is tried again in {allowed:.3g} s", **about
        )

    def _answered(self, permit: Permit, now: float) -> Change | None:
        if not self._breaker.succeeded(now, permit.probe):
            return None
        return Change("breaker.closed", "", {"after_s": round(now - self._opened_at, 3)})

    def _failed(self, permit: Permit, error: str, now: float) -> Change | None:
        if not self._breaker.failed(now, permit.probe, permit.begun):
            return None
        self._cause = error
        if not permit.probe:
            self._opened_at = now
        facts = {"failures": self._breaker.in_a_row, "open_s": self._breaker.open_s, "probe": permit.probe}
        return Change("breaker.opened", error, facts)


def budget(config: WorkflowConfig) -> RetryBudget:
    """A retry budget as configured; routers share what is meant for the whole system."""
    resilience = config.resilience
    return RetryBudget(resilience.retry_share, resilience.retry_floor_per_s / config.processing.routers)
