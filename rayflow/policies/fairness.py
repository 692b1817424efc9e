"""Who of those that wait goes next, so that tenants share what there is by weight: start-time fair queueing.

Each tenant that waits has a start tag on a virtual clock of tokens. The lowest tag goes next, the clock moves to it,
and the tenant's tag moves on by the tokens of the call over the tenant's weight. Whoever was idle comes in at the
clock's time: there is no credit for having been away, and none of the others' work is held against it. Over any stretch
in which two tenants both wait, the tokens they got, each over its weight, differ by at most one call of each.

Within a tenant the lowest `order` goes next; the order of a waiting call is a constant. A tenant that has nobody
waiting is forgotten when the clock passes its tag. Every operation costs O(log n).
Source: P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping

DEAD_SHARE = 0.5
"""A tenant's heap is rebuilt when more than this share of it was removed from the middle."""


class _Place:
    """One that waits."""

    __slots__ = ("cost", "gone", "since", "tenant")

    def __init__(self, tenant: str, cost: float, since: float) -> None:
        self.tenant = tenant
        self.cost = cost
        self.since = since
        self.gone = False


class _Flow:
    """One tenant's heap of `(order, number, ticket, place)`, and its tag; `before`: the tag before its last turn. Of
    equal tags that of the tenant that came first goes first."""

    __slots__ = ("before", "heap", "number", "start", "tokens", "waiting", "weight")

    def __init__(self, weight: float, start: float, number: int) -> None:
        self.weight = weight
        self.start = self.before = start
        self.number = number
        self.heap: list[tuple[float, int, str, _Place]] = []
        self.waiting = 0
        self.tokens = 0.0


class FairQueue:
    """`weights`: share by tenant; 1 where it has none."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._flows: dict[str, _Flow] = {}
        self._tags: list[tuple[float, int, str]] = []
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._now = 0.0
        self._number = 0
        self._active = 0.0
        self.tokens = 0.0
        """Of all that wait."""

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, ticket: str) -> bool:
        return ticket in self._places

    @property
    def oldest(self) -> float:
        """Since when the first that came has waited. There must be one."""
        return next(iter(self._places.values())).since

    def waiting(self, tenant: str) -> int:
        """How many of a tenant wait."""
        flow = self._flows.get(tenant)
        return flow.waiting if flow else 0

    def share(self, tenant: str) -> tuple[float, float]:
        """The tokens of this tenant that wait, and its share among the tenants that do, itself counted as one."""
        flow = self._flows.get(tenant)
        weight = self._weights.get(tenant, 1.0)
        if flow is None or not flow.waiting:
            return 0.0, weight / (self._active + weight)
        return flow.tokens, weight / self._active

    def push(self, ticket: str, tenant: str, order: float, cost: float, since: float) -> None:
        """`cost` in tokens, above 0."""
        self._number += 1
        self._enter(self._number, ticket, tenant, order, cost, since)

    def put_back(self, ticket: str, tenant: str, order: float, cost: float, since: float) -> None:
        """What `pop` has just returned was not served after all: as if it had not been taken. O(tenants)."""
        self._number += 1
        self._enter(-self._number, ticket, tenant, order, cost, since)
        flow = self._flows[tenant]
        flow.start = flow.before
        self._tags = [(other.start, other.number, name) for name, other in self._flows.items()]
        heapq.heapify(self._tags)
        if self._places[ticket].since <= self.oldest:
            self._places.move_to_end(ticket, last=False)

    def _enter(self, number: int, ticket: str, tenant: str, order: float, cost: float, since: float) -> None:
        flow = self._flows.get(tenant)
        if flow is None:
            flow = self._flows[tenant] = _Flow(self._weights.get(tenant, 1.0), self._now, self._number)
            heapq.heappush(self._tags, (flow.start, flow.number, tenant))
        if not flow.waiting:
            self._active += flow.weight
        place = self._places[ticket] = _Place(tenant, cost, since)
        heapq.heappush(flow.heap, (order, number, ticket, place))
        flow.waiting += 1
        flow.tokens += cost
        self.tokens += cost

    def pop(self) -> str | None:
        """The one that goes next, no longer in the queue; None where nobody waits."""
        while self._tags:
            start, _, tenant = self._tags[0]
            flow = self._flows[tenant]
            if not flow.waiting:
                # The others' tags are not lower, so what it had is of no consequence any more.
                heapq.heappop(self._tags)
                del self._flows[tenant]
                continue
            self._now = start
            while flow.heap[0][3].gone:
                heapq.heappop(flow.heap)
            _, _, ticket, place = heapq.heappop(flow.heap)
            flow.before, flow.start = start, start + place.cost / flow.weight
            heapq.heapreplace(self._tags, (flow.start, flow.number, tenant))
            self._leave(ticket, flow)
            return ticket
        return None

    def remove(self, ticket: str) -> None:
        """It waits no longer. Unknown tickets are ignored."""
        place = self._places.get(ticket)
        if place is None:
            return
        place.gone = True
        flow = self._flows[place.tenant]
        self._leave(ticket, flow)

    def _leave(self, ticket: str, flow: _Flow) -> None:
        place = self._places.pop(ticket)
        flow.waiting -= 1
        flow.tokens -= place.cost
        self.tokens -= place.cost
        if flow.waiting < DEAD_SHARE * len(flow.heap):
            flow.heap = [entry for entry in flow.heap if not entry[3].gone]
            heapq.heapify(flow.heap)
        if not flow.waiting:
            flow.tokens = 0.0
            self._active -= flow.weight
        if not self._places:
            # The end of a busy period: everybody starts anew.
            self._flows.clear()
            self._tags.clear()
            self._active = self.tokens = 0.0

    def validate(self) -> None:
        """Invariants, for tests: AssertionError where one does not hold."""
        assert sum(flow.waiting for flow in self._flows.values()) == len(self._places)
        assert sorted(tenant for _, _, tenant in self._tags) == sorted(self._flows)
        for start, _, tenant in self._tags:
            flow = self._flows[tenant]
            live = [entry[3] for entry in flow.heap if not entry[3].gone]
            assert start == flow.start >= self._now, (tenant, start, self._now)
            assert len(live) == flow.waiting and abs(sum(place.cost for place in live) - flow.tokens) < 1e-3
            assert len(flow.heap) <= 2 * flow.waiting, (len(flow.heap), flow.waiting)
