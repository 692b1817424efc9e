"""Whether a model is called at all: a circuit breaker.

While an endpoint is down, every call of it costs a place, a wait and an error, and holds the endpoint down. So after
some failures it is not called for a while (*open*), and what would have been a call fails at once; then a single call
tries it (*half-open*): if that *probe* is answered, all calls are made again (*closed*), if it fails, the pause
doubles. Two conditions open it: failures in a row, which is quick where everything fails, and a share of failures
within a window, which also sees an endpoint that fails now and then.

A failure is what speaks of the endpoint's health, as `verdict` says. A 429 is none: an endpoint that names a wait is
left alone for just so long and is called again without a probe, since it said itself that it will be there.
Source: M. Nygard, "Release It!", 2007; outlier detection of Envoy (5 in a row, 50 %).
"""

from __future__ import annotations

import random
from math import inf
from typing import Literal

from rayflow.config.schema import BreakerConfig
from rayflow.errors import DeadlineExceeded, ModelError, ModelRateLimited, ModelRejected, ModelTimeout
from rayflow.policies.budget import Window

State = Literal["closed", "open", "half-open"]
Verdict = Literal["failed", "answered", "unknown"]

SLICES = 10
"""Parts of the window: what is too old is forgotten one part at a time."""
JITTER = 0.1
"""A pause is up to this much longer, so that routers that opened together do not probe together."""
PROBED_S = 1.0
"""When to ask again where a probe is under way: nobody knows how long that takes."""
ONE_REQUEST = frozenset({409, 425})
"""Statuses that are worth a retry and say nothing of the endpoint's health."""


def verdict(error: BaseException, waited_s: float, patience_s: float) -> Verdict:
    """What an error of a call says of the endpoint.

    `waited_s`: how long the call was given. A call whose run had less time than `patience_s` proves nothing when that
    is over: a client in a hurry must not close a model for all others.
    """
    match error:
        case ModelRateLimited():
            return "unknown"
        case ModelRejected():
            return "answered"
        case ModelTimeout(details={"phase": "total"}) | DeadlineExceeded():
            return "failed" if waited_s >= patience_s else "unknown"
        case ModelError(details={"upstream_status": status}) if status in ONE_REQUEST:
            return "answered"
        case ModelError():
            return "failed"
        case _:
            return "unknown"


class Breaker:
    """One model as one router knows it. `now` is monotonic seconds.

    Whoever is allowed a call ends it with `succeeded`, `failed` or `released`, and says whether it was the probe.
    `endpoints`: how many a model is spread over. One of several that fails is not the model; so many more failures in a
    row it takes.
    """

    __slots__ = (
        "_calls", "_closed_at", "_config", "_cool_until", "_due", "_failures", "_in_a_row", "_limit", "_open_s",
        "_opened_at", "_probing", "_slice_s", "state",
    )  # fmt: skip

    def __init__(self, config: BreakerConfig, endpoints: int = 1) -> None:
        self._config = config
        self._limit = config.consecutive_failures * endpoints
        self._slice_s = config.window_s / SLICES
        self._open_s = config.open_s
        self._opened_at = -inf
        self._closed_at = -inf
        self._cool_until = -inf
        self._due: float | None = None
        """When the next probe may go; drawn when somebody first asks, None until then."""
        self._probing = False
        self.state: State = "closed"
        self._forget()

    def allow(self, now: float, rng: random.Random) -> Literal["call", "probe"] | float:
        """A call, the one probe, or neither: the seconds until it is worth asking again."""
        due = self._cool_until
        if self.state == "open":
            if self._due is None:
                self._due = self._opened_at + self._open_s * (1.0 + JITTER * rng.random())
            due = max(due, self._due)
        if now < due:
            return due - now
        if self.state == "closed":
            return "call"
        self.state = "half-open"
        if self._probing:
            return PROBED_S
        self._probing = True
        return "probe"

    def calls(self, now: float) -> bool:
        """Whether every call is allowed now."""
        return self.state == "closed" and now >= self._cool_until

    def succeeded(self, now: float, probe: bool = False) -> bool:
        """The endpoint answered. Whether that closed the breaker."""
        if probe:
            self._probing = False
            self.state = "closed"
            self._closed_at = now
            self._open_s = self._config.open_s
            self._forget()
        elif self.state == "closed":
            self._in_a_row = 0
            self._calls.add(now / self._slice_s)
        return probe

    def failed(self, now: float, probe: bool = False, begun: float = inf) -> bool:
        """The endpoint failed. Whether that opened the breaker, or opened it again.

        `begun`: when the call was made. One from before the last pause tells nothing new.
        """
        if probe:
            self._open_s = min(2.0 * self._open_s, self._config.max_open_s)
        elif not self._config.enabled or self.state != "closed" or begun < self._closed_at or not self._too_many(now):
            return False
        self._probing = False
        self.state = "open"
        self._opened_at = now
        self._due = None
        return True

    def released(self, probe: bool = False) -> None:
        """The call ended without a word about the endpoint (cancelled, refused elsewhere): a probe's place is free."""
        if probe:
            self._probing = False

    def cool(self, now: float, wait_s: float) -> bool:
        """The endpoint asked to be left alone for `wait_s`. Whether that is news."""
        if not self._config.enabled or wait_s <= 0:
            return False
        news = now >= self._cool_until
        self._cool_until = max(self._cool_until, now + min(wait_s, self._config.max_open_s))
        return news

    @property
    def in_a_row(self) -> int:
        """Failures since the last success, while closed and at the opening."""
        return self._in_a_row

    @property
    def open_s(self) -> float:
        """Length of the present pause, or of the next one, without its jitter."""
        return self._open_s

    def _too_many(self, now: float) -> bool:
        slice_ = now / self._slice_s
        self._in_a_row += 1
        self._calls.add(slice_)
        self._failures.add(slice_)
        calls = self._calls.total
        return self._in_a_row >= self._limit or (
            calls >= self._config.min_calls and self._failures.total >= self._config.failure_rate * calls
        )

    def _forget(self) -> None:
        self._in_a_row = 0
        self._calls = Window(SLICES)
        self._failures = Window(SLICES)

    def validate(self) -> None:
        """Invariants, for tests."""
        assert not self._probing or self.state == "half-open"
        assert self.state == "closed" or self._opened_at > -inf
        assert self._config.open_s <= self._open_s <= self._config.max_open_s
        assert self._in_a_row < self._limit or self.state != "closed"
