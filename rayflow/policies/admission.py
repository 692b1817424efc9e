"""Whether a call that finds no free replica may wait, or is better refused at once.

A refusal costs the client milliseconds; a call that waits and then fails costs it the whole wait, and the place in the
line that another could have used. So the decision falls at entry, by what the line knows: how many are before this
call, and how fast they go.

`bounded`   refuses where the line has no room for this class and tenant.
`deadline`  also where the expected wait passes `max_wait_s`, or leaves less time to the deadline than a call takes. A
            tenth is kept back, because half of all waits are longer than expected.
own         an object with `decide(prospect) -> Refusal | None`, or a function like it, asked while there is room. Where
            it raises, `bounded` decides.

Source: B. Maurer, "Fail at Scale", ACM Queue 2015; Google SRE book, chapter 21 "Handling Overload".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from rayflow.config.schema import AdmissionConfig
from rayflow.policies.own import Fence, is_own, load

Reason = Literal["full", "too-late", "too-long"]

UNKNOWN_RETRY_S = 1.0
"""What a refused client is told while no call has ended yet."""
LEEWAY = 0.9
"""The part of the time there is that an expected wait may take."""
MIN_RETRY_S = 0.1
MAX_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """full: no room in the line. too-late: it could not be answered by its deadline. too-long: it would wait longer
    than anybody may. `retry_after_s`: when that is expected to have changed."""

    reason: Reason
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Prospect:
    """What awaits a call at the end of the line. `room`: places left for its class and tenant. `wait_s` and
    `service_s`: how long it is expected to wait and then to take; None while no call has ended or no replica is up.
    `left_s`: seconds to its deadline."""

    room: int
    waiting: int
    wait_s: float | None
    service_s: float | None
    left_s: float
    level: float
    tenant: str
    tokens: int


class Admitter(Protocol):
    def decide(self, prospect: Prospect) -> Refusal | None:
        """Called for every call that would have to wait, on the hot path: it must not block. None: let it wait."""
        ...


def admitter(config: AdmissionConfig) -> Admitter:
    """The configured strategy. Raises `ConfigurationError` where an own policy cannot be loaded."""
    if is_own(config.strategy):
        return Own(load(config.strategy, config.options, "admission.strategy"), config.strategy)
    return Deadline(config.max_wait_s) if config.strategy == "deadline" else Bounded()


class Bounded:
    def decide(self, prospect: Prospect) -> Refusal | None:
        return Refusal("full", retry_after(prospect.wait_s)) if prospect.room <= 0 else None


class Deadline:
    def __init__(self, max_wait_s: float) -> None:
        self._most_s = LEEWAY * max_wait_s

    def decide(self, prospect: Prospect) -> Refusal | None:
        wait_s, service_s = prospect.wait_s, prospect.service_s
        if prospect.room <= 0:
            return Refusal("full", retry_after(wait_s))
        if wait_s is None or service_s is None:
            return None
        if wait_s > self._most_s:
            return Refusal("too-long", retry_after(wait_s - self._most_s))
        most_s = LEEWAY * (prospect.left_s - service_s)
        if wait_s > most_s:
            return Refusal("too-late", retry_after(wait_s - most_s))
        return None


class Own:
    """A user's policy behind its fence."""

    def __init__(self, own: Admitter | Callable[[Prospect], Refusal | None], name: str) -> None:
        self._decide: Callable[[Prospect], object] = own if callable(own) else own.decide
        self._fence = Fence(name, "bounded")
        self._fallback = Bounded()

    def decide(self, prospect: Prospect) -> Refusal | None:
        full = self._fallback.decide(prospect)
        return full or self._fence.call(self._checked, self._fallback.decide, prospect)

    def _checked(self, prospect: Prospect) -> Refusal | None:
        decision = self._decide(prospect)
        if decision is not None and not isinstance(decision, Refusal):
            raise TypeError(f"a Refusal or None was expected, not {decision!r:.100}")
        return decision


def retry_after(wait_s: float | None) -> float:
    """Seconds after which trying again makes sense, where the line is expected to take `wait_s` to get there."""
    return UNKNOWN_RETRY_S if wait_s is None else min(max(wait_s, MIN_RETRY_S), MAX_RETRY_S)
