"""What a balancing strategy sees, and what it is.

The load of a replica is the number of calls it works on: this router's own, each from the moment it is reserved until
its reply, its error or its cancellation, and those of other routers as far as the replica's last reply told. Only the
pool (`runtime.pool`) writes a `Replica`; strategies read it, and keep what they learn of it for themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

LOAD: Callable[[Replica], int] = attrgetter("load")
INDEX: Callable[[Replica], int] = attrgetter("index")


class Replica:
    """One replica as one pool knows it."""

    __slots__ = ("address", "calls", "failures", "in_flight", "index", "load", "others", "weight")

    def __init__(self, address: str, index: int, weight: float = 1.0) -> None:
        self.address = address
        self.index = index
        """Its number in the pool; no two have the same."""
        self.weight = weight
        self.in_flight = 0
        """Calls of this router."""
        self.others = 0
        """Calls of other routers, by its last reply; old news fade."""
        self.load = 0
        """`in_flight` + `others`."""
        self.failures = 0
        """Calls in a row that it failed."""
        self.calls: dict[str, tuple[float, int]] = {}
        """This router's calls, in order: ticket -> when it was sent, and the load it met."""

    def oldest_s(self, now: float) -> float:
        """For how long the call that has been there longest has been unanswered; 0 where there is none."""
        for since, _ in self.calls.values():
            return now - since
        return 0.0

    def __repr__(self) -> str:
        return f"Replica({self.address!r}, load={self.load})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call went. Times are seconds since it was sent to the replica."""

    ok: bool
    """False: the replica failed. A request that was wrong itself says nothing against the replica that refused it."""
    duration_s: float
    first_token_s: float | None = None
    """None: the answer was not streamed."""
    in_flight: int | None = None
    """Calls the replica was busy with when it answered, this one included, in its own words."""


class Balancer:
    """A strategy with what it knows of one pool. `choose` must be quick: it stands in the path of every call."""

    def choose(self, replicas: Sequence[Replica], limit: int, now: float, rng: random.Random, key: str) -> Replica:
        """The replica that takes a call.

        `replicas`: those that may take it, at least one, in the order of `index`; each has less than `limit` calls of
        this router. The list belongs to the pool. `key`: the call's session, or "".
        """
        raise NotImplementedError

    def members(self, replicas: Sequence[Replica]) -> None:
        """The pool consists of these now, whether they may take calls or not."""

    def ended(self, replica: Replica, outcome: Outcome, met: int, now: float) -> None:
        """A call was answered or failed. `met`: calls that were there when it came. Cancelled ones are not told."""
