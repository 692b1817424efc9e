"""The replicas of one agent as a router sees them: who is there, how busy, who is left alone, and who waits.

Choice and reservation are one step, so two runs can never both take the last free place. A run that finds no place
waits in a bounded line (`runtime.line`), which says who goes next.

Strategies choose among those replicas that may take a call: in rotation, and with room. The pool keeps this list up to
date as places are taken and given back, so that a call costs the same in a pool of four as in a pool of a thousand,
full or not, where the strategy itself does not look at everybody.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

from rayflow.messages import PoolDemand
from rayflow.policies.balancing.base import INDEX, Balancer, Outcome, Replica

if TYPE_CHECKING:
    from rayflow.policies.adaptive import AdaptiveLimit
    from rayflow.policies.admission import Refusal
    from rayflow.policies.ejection import Ejection, Ejector
    from rayflow.runtime.line import Line, Waiter

MOST_LOADS = 8
"""How many replicas' loads a `Choice` tells."""
FADE_S = 1.0
"""What a replica said of other routers' calls counts half as much after each of these."""


@dataclass(frozen=True, slots=True)
class Grant:
    """`ticket` may call `replica` now; `release` must follow exactly once."""

    ticket: str
    replica: str
    waited_s: float


class Choice(NamedTuple):
    """How a replica was chosen. `loads`: calls at the pool's replicas by their number, that of the chosen one counted;
    of a large pool only the first, and of one replica nothing: there was no choice."""

    strategy: str
    loads: dict[str, int]


NO_CHOICE = Choice("", {})


class Pool:
    """All times are seconds of the caller's monotonic clock. `max_in_flight` is per replica and router. `weights`: that
    of replica n is entry n modulo the length; empty: all alike. `name`: the agent's, for `demand`. `strategy`: that of
    the balancer, for `choice`."""

    def __init__(
        self,
        max_in_flight: int,
        balancer: Balancer,
        line: Line,
        ejector: Ejector | None = None,
        adaptive: AdaptiveLimit | None = None,
        weights: Sequence[float] = (),
        name: str = "",
        strategy: str = "",
    ) -> None:
        self.max_in_flight = max_in_flight
        self.name = name
        self.strategy = strategy
        self.in_flight = 0
        """Calls on all replicas, those that left included."""
        self.ejection: Ejection | None = None
        """What the call that was released last led to."""
        self._balancer = balancer
        self._line = line
        self._ejector = ejector
        self._adaptive = adaptive
        self._weights = weights or (1.0,)
        self._members: dict[str, Replica] = {}
        self._leaving: dict[str, Replica] = {}
        self._open: list[Replica] = []
        """Those that may take a call, by index."""
        self._heard: set[Replica] = set()
        """Those that spoke of other routers' calls."""
        self._fade_at = 0.0
        self._arrived = self._finished = 0
        self._response_s = 0.0

    @property
    def size(self) -> int:
        return len(self._members)

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def pressure(self) -> float:
        """Calls, those that wait included, for each place there is; infinite where there is no place."""
        places = self._ceiling()
        return (self.in_flight + len(self._line)) / places if places else inf

    def choice(self) -> Choice:
        """What a replica is chosen by, and among whom, as things are."""
        if len(self._members) < 2:
            return NO_CHOICE
        first = islice(self._members.values(), MOST_LOADS)
        return Choice(self.strategy, {str(replica.index): replica.load for replica in first})

    def demand(self, now: float) -> PoolDemand:
        """What asks for replicas here, for those who decide how many there are."""
        return PoolDemand(
            agent=self.name,
            in_flight=self.in_flight,
            waiting=len(self._line),
            oldest_s=self._line.oldest_s(now),
            arrived=self._arrived,
            finished=self._finished,
            response_s=self._response_s,
        )

    def members(self, replicas: Iterable[str], now: float, rng: random.Random) -> list[Grant]:
        """The pool's replicas are now these. Calls on those that left are still counted until they are released."""
        current = set(replicas)
        if current != self._members.keys():
            for address in self._members.keys() - current:
                replica = self._members.pop(address)
                if replica.in_flight:
                    self._leaving[address] = replica
                    replica.others, replica.load = 0, replica.in_flight
                self._heard.discard(replica)
            for address in sorted(current - self._members.keys()):
                self._members[address] = self._leaving.pop(address) if address in self._leaving else self._join(address)
            if self._ejector is not None:
                self._ejector.members(self._members, now)
            everyone = sorted(self._members.values(), key=INDEX)
            self._open = [replica for replica in everyone if self._may_take(replica)]
            self._balancer.members(everyone)
        return self._serve(now, rng)

    def acquire(
        self, waiter: Waiter, now: float, rng: random.Random, avoid: Collection[str] = ()
    ) -> Grant | Literal["queued"] | Refusal:
        """A place now, or one in the line. `avoid`: replicas to take only where no other has room."""
        self._arrived += 1
        places = self._places()
        if self._line.come(waiter, now, self._free(places), places):
            replica = self._choose(waiter, now, rng, avoid)
            if replica is not None:
                return self._reserve(replica, waiter, 0.0, now)
        return self._line.offer(waiter, now, places) or "queued"

    def release(self, grant: Grant, now: float, rng: random.Random, outcome: Outcome | None = None) -> list[Grant]:
        """A call ended; `outcome` is None where it was cancelled and nothing is learnt from it. Returns who may go
        next."""
        address = grant.replica
        replica = self._members.get(address) or self._leaving[address]
        since, met = replica.calls.pop(grant.ticket)
        service_s = now - since
        self.in_flight -= 1
        self._finished += 1
        self._response_s += grant.waited_s + service_s
        self._line.ended(now, service_s)
        if outcome is not None:
            self._learn(replica, outcome, met, now)
        replica.in_flight -= 1
        replica.load = replica.in_flight + replica.others
        change = None
        if self._ejector is not None:
            ok = None if outcome is None else outcome.ok
            change = self._ejector.ended(address, grant.ticket, ok, now)
            self.ejection = self._ejector.ejection()
        if address in self._leaving:
            if not replica.in_flight:
                del self._leaving[address]
        elif change == "out":
            self._close(replica)
        elif change == "back" or replica.in_flight == self.max_in_flight - 1:
            self._reopen(replica)
        return self._serve(now, rng) if len(self._line) else []

    def abandon(self, ticket: str) -> None:
        """A waiting run gave up (cancellation)."""
        self._line.abandon(ticket)

    def expire(self, now: float) -> list[Waiter]:
        """Those whose time is up: they wait no longer."""
        return self._line.expire(now)

    # --- choice and reservation ---

    def _choose(self, waiter: Waiter, now: float, rng: random.Random, avoid: Collection[str] = ()) -> Replica | None:
        if not self._below_limit():
            return None
        for replica in self._due(now):
            if replica.address not in avoid:
                assert self._ejector is not None
                self._ejector.probing(replica.address, waiter.ticket)
                return replica
        replicas = self._open
        if avoid:
            replicas = [replica for replica in replicas if replica.address not in avoid] or replicas
        if not replicas:
            return None
        if self._heard and now >= self._fade_at:
            self._fade(now)
        return self._balancer.choose(replicas, self.max_in_flight, now, rng, waiter.key)

    def _reserve(self, replica: Replica, waiter: Waiter, waited_s: float, now: float) -> Grant:
        replica.calls[waiter.ticket] = now, replica.load
        replica.in_flight += 1
        replica.load += 1
        self.in_flight += 1
        if replica.in_flight == self.max_in_flight:
            self._close(replica)
        return Grant(waiter.ticket, replica.address, waited_s)

    def _serve(self, now: float, rng: random.Random) -> list[Grant]:
        grants: list[Grant] = []
        while len(self._line) and self._below_limit() and (self._open or self._due(now)):
            places = self._places()
            waiter = self._line.next(now, self._free(places), places)
            if waiter is None:
                break
            replica = self._choose(waiter, now, rng)
            assert replica is not None, "there was room"
            grants.append(self._reserve(replica, waiter, now - waiter.since, now))
        return grants

    # --- who may take a call ---

    def _below_limit(self) -> bool:
        return self._adaptive is None or self.in_flight < self._adaptive.limit(self._ceiling())

    def _due(self, now: float) -> Sequence[Replica]:
        """Ejected replicas that a call should try now."""
        if self._ejector is None or not self._ejector.out:
            return ()
        due = (self._members[address] for address in self._ejector.due(now))
        return [replica for replica in due if replica.in_flight < self.max_in_flight]

    def _may_take(self, replica: Replica) -> bool:
        out = self._ejector.out if self._ejector is not None else ()
        return replica.in_flight < self.max_in_flight and replica.address not in out

    def _close(self, replica: Replica) -> None:
        place = bisect_left(self._open, replica.index, key=INDEX)
        if place < len(self._open) and self._open[place] is replica:
            del self._open[place]

    def _reopen(self, replica: Replica) -> None:
        if self._may_take(replica):
            insort(self._open, replica, key=INDEX)

    def _ceiling(self) -> int:
        out = len(self._ejector.out) if self._ejector is not None else 0
        return (len(self._members) - out) * self.max_in_flight

    def _places(self) -> int:
        ceiling = self._ceiling()
        return ceiling if self._adaptive is None else self._adaptive.limit(ceiling)

    def _free(self, places: int) -> int:
        """Places that no call has. Calls at replicas that left or are left alone have none of these."""
        elsewhere = sum(replica.in_flight for replica in self._leaving.values())
        if self._ejector is not None:
            elsewhere += sum(self._members[address].in_flight for address in self._ejector.out)
        return places - (self.in_flight - elsewhere)

    def _join(self, address: str) -> Replica:
        """Its index is the number at the end of its address, or the next one that is free."""
        number = address.rpartition("/")[2]
        index = int(number) if number.isdecimal() else 0
        taken = {replica.index for pool in (self._members, self._leaving) for replica in pool.values()}
        while index in taken:
            index += 1
        return Replica(address, index, self._weights[index % len(self._weights)])

    # --- what is learnt ---

    def _learn(self, replica: Replica, outcome: Outcome, met: int, now: float) -> None:
        """From a call that is still counted."""
        replica.failures = 0 if outcome.ok else replica.failures + 1
        if outcome.in_flight is not None and replica.address in self._members:
            replica.others = max(0, outcome.in_flight - replica.in_flight)
            if replica.others:
                if not self._heard:
                    self._fade_at = now + FADE_S
                self._heard.add(replica)
            elif self._heard:
                self._heard.discard(replica)
        if self._adaptive is not None:
            self._adaptive.ended(outcome.duration_s, self.in_flight + 1, outcome.ok, now)
        self._balancer.ended(replica, outcome, met, now)

    def _fade(self, now: float) -> None:
        times = 1 + int((now - self._fade_at) / FADE_S)
        self._fade_at += times * FADE_S
        for replica in list(self._heard):
            replica.others >>= times
            replica.load = replica.in_flight + replica.others
            if not replica.others:
                self._heard.discard(replica)

    def validate(self) -> None:
        """Invariants, for tests: AssertionError where one does not hold."""
        for replica in (*self._members.values(), *self._leaving.values()):
            assert replica.in_flight == len(replica.calls) <= self.max_in_flight
            assert replica.load == replica.in_flight + replica.others
        assert all(replica.in_flight for replica in self._leaving.values())
        assert {replica for replica in self._members.values() if replica.others} == self._heard
        assert not self._members.keys() & self._leaving.keys()
        assert self._open == sorted(filter(self._may_take, self._members.values()), key=INDEX)
        assert len({replica.index for replica in self._members.values()}) == len(self._members)
        assert self.in_flight == sum(r.in_flight for r in (*self._members.values(), *self._leaving.values()))
        assert self._ejector is None or self._ejector.out.keys() <= self._members.keys()
        # Batch calls may have to wait although there is room.
        assert self._adaptive is not None or not self._line.others or not self._open
