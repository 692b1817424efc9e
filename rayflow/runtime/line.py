"""The line of calls that wait for a replica of one agent: who may join it, and who goes next.

Classes come first: interactive before tool before batch. Within a class tenants share by weight, in tokens
(`policies.fairness`), and within a tenant the level decides, with ageing: a call that has waited for `ageing_s` stands
where one of the next higher class stands that has just come. Since all that wait age at one rate, their order never
changes while they wait, and a heap is enough.

No class starves. One whose oldest call has waited for `ageing_s` is served beside the class above it, one that has
waited twice as long beside the one above that; classes side by side take turns by `CLASS_SHARES`, in tokens. So a flood
of batch calls, however old they get, leaves interactive ones at least 4/5 of all places while they need them.

A place that is taken cannot be taken back, so while there are calls of other classes, batch calls leave some places
free for the next of them (`priority.reserve`): who is waited for need not wait until a batch call has ended.

Nobody can fill the line alone: lower classes may take a part of it, and where there are tenants, each may hold at most
`TENANT_ROOM` times what is left free (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998), so that there is
always room for one that comes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

from rayflow.config.schema import AdmissionConfig, PriorityConfig
from rayflow.policies.admission import Prospect, Refusal, admitter
from rayflow.policies.fairness import FairQueue
from rayflow.policies.priority import CLASSES, class_of

__all__ = ["Line", "Refusal", "Waiter"]

CLASS_SHARES = (1.0, 2.0, 4.0)
"""How classes that are served side by side take turns, in the order of `CLASSES`."""
CLASS_ROOM = (0.5, 0.75, 1.0)
"""The part of the line up to which each class may fill it."""
TENANT_ROOM = 4
PACE = 0.05
"""Weight of the last ending in the average time of a call; the first ones count alike."""
TURNS = 0.02
"""Weight of the last turn in a class's share of turns."""
MOST_TAKEN = 0.8
"""The part of all turns that classes above can take at most, because of ageing."""
RESERVED_S = 10.0
"""For so long after the last call of a higher class places are kept free of batch calls."""
SLACK = 64
"""Entries of the timetable that may be out of date before it is tidied."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """A call that waits. `since` and `deadline`: seconds on the caller's monotonic clock. `level`: as `priority.level`
    says. `tokens`: what it is expected to use. `key`: its session."""

    ticket: str
    since: float
    deadline: float
    level: float = 2.0
    tenant: str = ""
    tokens: int = 1
    key: str = ""


class Line:
    """`max_queue`: how many may wait. `weights`: the configured tenants' shares. Raises `ConfigurationError` where an
    own admission policy cannot be loaded."""

    def __init__(
        self, admission: AdmissionConfig, priority: PriorityConfig, max_queue: int, weights: Mapping[str, float]
    ) -> None:
        self.max_queue = max_queue
        self._admitter = admitter(admission)
        self._max_wait_s = admission.max_wait_s
        self._ageing_s = priority.ageing_s
        self._classes = priority.enabled
        self._reserve = priority.reserve
        self._others_at = -math.inf
        self._shared = bool(weights)
        self._queues = tuple(FairQueue(weights) for _ in CLASSES)
        self._room = tuple(math.ceil(max_queue * part) for part in CLASS_ROOM)
        self._waiters: dict[str, Waiter] = {}
        self._expired: list[Waiter] = []
        self._timetable: list[tuple[float, str]] = []
        self._tags = [0.0] * len(CLASSES)
        self._turn = 0.0
        self._before = (0.0, 0.0)
        """The tag of the class that was served last, and the turn, as they were before."""
        self._taken = [0.0] * len(CLASSES)
        self._service_s = 0.0
        self._ended = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def offer(self, waiter: Waiter, now: float, places: int) -> Refusal | None:
        """Join the line, or be refused at once. `places`: calls that the whole pool can work on at a time now."""
        if not self._waiters:
            self._taken = [0.0] * len(CLASSES)
        rank = self._rank(waiter)
        wait_s = self._expected_s(waiter, rank, places)
        refusal = self._admitter.decide(
            Prospect(
                room=self._room_for(waiter.tenant, rank),
                waiting=len(self._waiters),
                wait_s=wait_s,
                service_s=None if wait_s is None else self._service_s,
                left_s=waiter.deadline - now,
                level=waiter.level,
                tenant=waiter.tenant,
                tokens=waiter.tokens,
            )
        )
        if refusal is None:
            self._join(waiter, rank)
        return refusal

    def come(self, waiter: Waiter, now: float, free: int, places: int) -> bool:
        """A call comes. Whether it may take one of `free` places at once; else it has to wait, because others do or
        because the place is reserved."""
        self._sweep(now)
        if self._rank(waiter):
            self._others_at = now
            return not self.others
        return not self._waiters and self._admits_batch(now, free, places)

    @property
    def others(self) -> int:
        """Calls above batch that wait."""
        return len(self._waiters) - len(self._queues[0])

    def next(self, now: float, free: int, places: int) -> Waiter | None:
        """The one that takes one of `free` places next; it waits no longer. Nobody whose time is up is ever
        returned."""
        self._sweep(now)
        rank = self._next_class(now, 0 if self._admits_batch(now, free, places) else 1)
        if rank is None:
            return None
        ticket = self._queues[rank].pop()
        assert ticket is not None, "the class has somebody waiting"
        waiter = self._waiters.pop(ticket)
        self._before = self._tags[rank], self._turn
        start = max(self._tags[rank], self._turn)
        self._turn = start
        self._tags[rank] = start + max(waiter.tokens, 1) / CLASS_SHARES[rank]
        for lower in range(len(CLASSES) - 1):
            self._taken[lower] += TURNS * ((rank > lower) - self._taken[lower])
        return waiter

    def put_back(self, waiter: Waiter) -> None:
        """Who `next` has just returned could not be served after all: as if it had not been taken out."""
        rank = self._rank(waiter)
        self._tags[rank], self._turn = self._before
        self._waiters[waiter.ticket] = waiter
        self._queues[rank].put_back(*self._place(waiter))
        self._schedule(waiter)

    def expire(self, now: float) -> list[Waiter]:
        """Those who have waited until their deadline, or for `max_wait_s`. They wait no longer."""
        self._sweep(now)
        expired, self._expired = self._expired, []
        return expired

    @property
    def next_expiry(self) -> float | None:
        """No call expires before this moment; None where nobody waits."""
        return self._timetable[0][0] if self._timetable else None

    def abandon(self, ticket: str) -> None:
        """It gave up. Unknown tickets are ignored."""
        waiter = self._waiters.pop(ticket, None)
        if waiter is None:
            self._expired = [other for other in self._expired if other.ticket != ticket]
        else:
            self._leave(waiter)

    def ended(self, now: float, service_s: float) -> None:
        """A call ended, `service_s` after it was given its replica: the pace by which waits are predicted."""
        self._ended += 1
        self._service_s += max(PACE, 1.0 / self._ended) * (service_s - self._service_s)

    def oldest_s(self, now: float) -> float:
        """How long the one that has waited longest has waited; 0 where nobody waits."""
        since = [queue.oldest for queue in self._queues if queue]
        return max(0.0, now - min(since)) if since else 0.0

    # --- joining and leaving ---

    def _rank(self, waiter: Waiter) -> int:
        return class_of(waiter.level) if self._classes else len(CLASSES) - 1

    def _join(self, waiter: Waiter, rank: int) -> None:
        self._waiters[waiter.ticket] = waiter
        self._queues[rank].push(*self._place(waiter))
        self._schedule(waiter)

    def _place(self, waiter: Waiter) -> tuple[str, str, float, float, float]:
        """What its queue wants to know: who, whose, in which order, at what cost, and since when."""
        lead_s = waiter.level * self._ageing_s if self._classes else 0.0
        return waiter.ticket, waiter.tenant, waiter.since - lead_s, max(waiter.tokens, 1), waiter.since

    def _leave(self, waiter: Waiter) -> None:
        """Out of its queue; the caller has taken it from `_waiters`."""
        self._queues[self._rank(waiter)].remove(waiter.ticket)

    def _schedule(self, waiter: Waiter) -> None:
        """Its end goes into the timetable, where it stays when it is served: those that are out of date are tidied away
        as the timetable grows."""
        if len(self._timetable) >= 2 * len(self._waiters) + SLACK:
            self._timetable = [(self._until(w), w.ticket) for w in self._waiters.values() if w is not waiter]
            heapq.heapify(self._timetable)
        heapq.heappush(self._timetable, (self._until(waiter), waiter.ticket))

    def _until(self, waiter: Waiter) -> float:
        return min(waiter.deadline, waiter.since + self._max_wait_s)

    def _sweep(self, now: float) -> None:
        while self._timetable and self._timetable[0][0] <= now:
            _, ticket = heapq.heappop(self._timetable)
            waiter = self._waiters.get(ticket)
            if waiter is not None and self._until(waiter) <= now:
                del self._waiters[ticket]
                self._expired.append(waiter)
                self._leave(waiter)

    # --- decisions ---

    def _admits_batch(self, now: float, free: int, places: int) -> bool:
        if now - self._others_at > RESERVED_S:
            return True
        return free > int(places * self._reserve) or places <= 0

    def _next_class(self, now: float, lowest: int) -> int | None:
        """The class to serve: the highest that somebody has reached, and of several there the one whose turn it is."""
        best: tuple[int, float, int] | None = None
        for rank, queue in enumerate(self._queues):
            if queue and rank >= lowest:
                reached = rank + int((now - queue.oldest) / self._ageing_s)
                claim = (min(reached, len(CLASSES) - 1), -max(self._tags[rank], self._turn), rank)
                best = claim if best is None else max(best, claim)
        return None if best is None else best[2]

    def _room_for(self, tenant: str, rank: int) -> int:
        waiting = len(self._waiters)
        room = self._room[rank] - waiting
        if self._shared:
            held = sum(queue.waiting(tenant) for queue in self._queues)
            room = min(room, max(TENANT_ROOM * (self.max_queue - waiting), 1) - held)
        return room

    def _expected_s(self, waiter: Waiter, rank: int, places: int) -> float | None:
        """How long this call would wait: those that go before it, at the pace of the last endings. Of its own class
        these are all, or what its tenant's share lets through while its own line is worked off, whichever is less."""
        if places <= 0 or not self._ended:
            return None
        own = self._queues[rank]
        ahead = float(len(own))
        if self._shared and ahead:
            tokens, share = own.share(waiter.tenant)
            mean = own.tokens / len(own)
            ahead = min(ahead, tokens / (share * mean))
        ahead += sum(len(queue) for queue in self._queues[rank + 1 :])
        turns = 1.0 - min(self._taken[rank], MOST_TAKEN)
        return (ahead + 1.0) * self._service_s / (places * turns)

    def validate(self) -> None:
        """Invariants, for tests: AssertionError where one does not hold."""
        for queue in self._queues:
            queue.validate()
        assert sum(map(len, self._queues)) == len(self._waiters)
        assert {ticket for _, ticket in self._timetable} >= self._waiters.keys()
