"""The line, in virtual time: order, shares, ageing, refusals, and what overload does to each."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import AdmissionConfig, PriorityConfig
from rayflow.runtime.line import RESERVED_S, Line, Refusal, Waiter

LEVELS = {"interactive": 2.25, "tool": 1.25, "batch": 0.25}


ROOM = (1, 1)
"""A free place, and how many places there are."""


def line(
    *, strategy: str = "deadline", max_wait_s: float = 30.0, ageing_s: float = 10.0, enabled: bool = True,
    max_queue: int = 1000, weights: Mapping[str, float] | None = None, reserve: float = 0.0,
) -> Line:  # fmt: skip
    admission = AdmissionConfig(strategy=strategy, max_wait_s=max_wait_s)
    priority = PriorityConfig(ageing_s=ageing_s, enabled=enabled, reserve=reserve)
    return Line(admission, priority, max_queue, weights or {})


def waiter(ticket: str, since: float = 0.0, name: str = "interactive", **facts: object) -> Waiter:
    given: dict[str, object] = {"deadline": since + 120.0, "level": LEVELS[name], "tokens": 10}
    return Waiter(ticket, since, **{**given, **facts})  # type: ignore[arg-type]


def order(queue: Line, now: float) -> list[str]:
    found = []
    while (served := queue.next(now, *ROOM)) is not None:
        queue.validate()
        found.append(served.ticket)
    return found


# --- who goes next ---


def test_classes_come_first_and_within_one_the_level_and_then_the_order_of_arrival() -> None:
    queue = line()
    for ticket, name, level in (
        ("b", "batch", 0.25), ("t1", "tool", 1.25), ("i1", "interactive", 2.25), ("i2", "interactive", 2.25),
        ("premium", "interactive", 2.75), ("t2", "tool", 1.25),
    ):  # fmt: skip
        assert queue.offer(waiter(ticket, 0.0, name, level=level), 0.0, 1) is None
    assert order(queue, 0.0) == ["premium", "i1", "i2", "t1", "t2", "b"]


def test_without_priority_the_first_come_is_the_first_served() -> None:
    queue = line(enabled=False)
    for i, name in enumerate(("batch", "interactive", "tool")):
        queue.offer(waiter(name, float(i), name), float(i), 1)
    assert order(queue, 3.0) == ["batch", "interactive", "tool"]


def test_within_a_class_age_makes_up_for_what_a_level_lacks() -> None:
    queue = line(ageing_s=10.0)
    queue.offer(waiter("old", 0.0, level=2.25), 0.0, 1)
    queue.offer(waiter("premium", 4.0, level=2.75), 4.0, 1)
    queue.offer(waiter("later premium", 6.0, level=2.75), 6.0, 1)
    assert order(queue, 7.0) == ["premium", "old", "later premium"]


def test_a_class_that_has_waited_long_is_served_beside_the_next_and_nobody_starves() -> None:
    queue = line(strategy="bounded", max_wait_s=3600, ageing_s=10.0)
    for i in range(20):
        queue.offer(waiter(f"b{i}", 0.0, "batch"), 0.0, 1)
    served: list[tuple[float, str]] = []
    for second in range(40):
        now = float(second)
        queue.offer(waiter(f"i{2 * second}", now), now, 1)
        queue.offer(waiter(f"i{2 * second + 1}", now), now, 1)
        found = queue.next(now, *ROOM)
        assert found is not None
        served.append((now, found.ticket[0]))
    young = [kind for now, kind in served if now < 20]
    aged = Counter(kind for now, kind in served if now >= 20)
    assert set(young) == {"i"}
    assert aged["b"] == pytest.approx(20 / 5, abs=1)  # a fifth: 1 beside 4


def test_one_that_is_put_back_lets_a_more_urgent_one_pass() -> None:
    queue = line()
    queue.offer(waiter("b", 0.0, "batch"), 0.0, 1)
    for now in range(3):
        batch = queue.next(float(now), *ROOM)
        assert batch is not None
        queue.put_back(batch)
    queue.offer(waiter("i", 3.0), 3.0, 1)
    assert queue.oldest_s(3.0) == 3.0
    assert order(queue, 3.0) == ["i", "b"]


def test_one_that_is_put_back_goes_next() -> None:
    queue = line()
    for i in range(3):
        queue.offer(waiter(str(i), 0.0), 0.0, 1)
    first = queue.next(0.0, *ROOM)
    assert first is not None
    queue.put_back(first)
    queue.validate()
    assert len(queue) == 3
    assert order(queue, 0.0) == ["0", "1", "2"]


# --- places that batch calls leave free ---


def test_while_there_are_others_batch_calls_leave_places_free_for_the_next_of_them() -> None:
    queue = line(reserve=0.25)
    batch, person = waiter("b", 0.0, "batch"), waiter("i", 0.0)
    assert queue.come(batch, 0.0, free=1, places=8)  # nobody else was here
    assert queue.come(person, 0.0, free=1, places=8)
    assert not queue.come(batch, 0.0, free=2, places=8)
    assert queue.come(batch, 0.0, free=3, places=8)
    queue.offer(batch, 0.0, 8)
    assert queue.next(1.0, free=2, places=8) is None
    assert queue.come(waiter("j", 1.0), 1.0, free=2, places=8)  # not behind those that leave it to others
    assert not queue.come(waiter("c", 1.0, "batch"), 1.0, free=8, places=8)
    assert queue.next(1.0, free=3, places=8) == batch


def test_what_was_kept_free_is_given_to_batch_calls_when_no_others_come() -> None:
    queue = line(reserve=0.25)
    assert queue.come(waiter("i", 0.0), 0.0, free=8, places=8)
    queue.offer(waiter("b", 1.0, "batch"), 1.0, 8)
    assert queue.next(RESERVED_S, free=1, places=8) is None
    assert queue.next(RESERVED_S + 0.1, free=1, places=8) is not None


def test_a_call_that_comes_does_not_pass_others_that_wait() -> None:
    queue = line(reserve=0.25)
    queue.offer(waiter("tool", 0.0, "tool"), 0.0, 8)
    assert not queue.come(waiter("i", 0.0), 0.0, free=8, places=8)
    assert queue.next(0.0, free=1, places=8) is not None


@pytest.mark.parametrize(("reserve", "most_s"), [(0.0, 2.0), (0.25, 0.5)])
def test_kept_places_spare_interactive_calls_the_wait_for_a_batch_call_to_end(reserve: float, most_s: float) -> None:
    queue = line(reserve=reserve, max_wait_s=120.0)
    person, flood = Load(4.0), Load(40.0, "batch")
    overload(queue, [person, flood], seconds=400.0, places=16)
    waits = sorted(person.waits)
    assert waits[int(0.99 * len(waits))] < most_s
    assert flood.done >= 0.9 * (16 * (1 - reserve) - 4) * 300


# --- leaving without being served ---


def test_those_whose_time_is_up_are_never_served_and_named_once() -> None:
    queue = line(max_wait_s=5.0)
    queue.offer(waiter("hasty", 0.0, deadline=2.0), 0.0, 1)
    queue.offer(waiter("patient", 0.0), 0.0, 1)
    assert queue.next_expiry == 2.0
    assert order(queue, 2.0) == ["patient"]
    assert [gone.ticket for gone in queue.expire(2.0)] == ["hasty"]
    assert queue.expire(100.0) == []
    queue.offer(waiter("late", 10.0), 10.0, 1)
    assert queue.come(waiter("next", 15.0), 15.0, *ROOM)
    assert [gone.ticket for gone in queue.expire(15.0)] == ["late"]
    queue.validate()


def test_one_that_gave_up_is_forgotten_wherever_it_was() -> None:
    queue = line(max_wait_s=5.0)
    for ticket in ("waiting", "put back", "expired"):
        queue.offer(waiter(ticket, 0.0, deadline=1.0 if ticket == "expired" else 60.0), 0.0, 1)
    queue.put_back(queue.next(0.0, *ROOM))  # type: ignore[arg-type]
    assert not queue.come(waiter("next", 2.0), 2.0, *ROOM)
    for ticket in ("waiting", "put back", "expired", "never there"):
        queue.abandon(ticket)
        queue.validate()
    assert (len(queue), queue.next(2.0, *ROOM), queue.expire(2.0)) == (0, None, [])


def test_the_oldest_is_known_whatever_its_class() -> None:
    queue = line()
    assert queue.oldest_s(9.0) == 0
    queue.offer(waiter("b", 1.0, "batch"), 1.0, 1)
    queue.offer(waiter("i", 5.0), 5.0, 1)
    assert queue.oldest_s(9.0) == 8.0
    queue.abandon("b")
    assert queue.oldest_s(9.0) == 4.0


# --- refusals ---


def test_the_expected_wait_follows_from_the_pace_and_the_places() -> None:
    queue = line(max_wait_s=5.0)
    for _ in range(10):
        queue.ended(0.0, 2.0)
    accepted = [queue.offer(waiter(str(i), 0.0), 0.0, 4) for i in range(10)]
    assert accepted[:9] == [None] * 9  # the ninth waits for nine endings, two a second: 4.5 s, nine tenths of 5
    assert accepted[9] == Refusal("too-long", pytest.approx(0.5))
    assert queue.offer(waiter("more places", 0.0), 0.0, 8) is None


def test_a_call_is_refused_that_could_not_be_answered_in_time() -> None:
    queue = line()
    queue.ended(0.0, 2.0)
    assert queue.offer(waiter("in time", 0.0, deadline=4.5), 0.0, 1) is None
    refusal = queue.offer(waiter("too late", 0.0, deadline=4.5), 0.0, 1)
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_s) == ("too-late", pytest.approx(1.75))


def test_before_anything_ended_and_with_no_replica_only_room_counts() -> None:
    queue = line(max_wait_s=0.001)
    assert queue.offer(waiter("first", 0.0), 0.0, 1) is None
    queue.ended(0.0, 100.0)
    assert queue.offer(waiter("scaled to zero", 0.0), 0.0, 0) is None


def test_batch_can_fill_half_of_the_line_and_tools_three_quarters() -> None:
    queue = line(max_queue=100)
    accepted: Counter[str] = Counter()
    for name in ("batch", "tool", "interactive"):
        for i in range(120):
            refusal = queue.offer(waiter(f"{name}{i}", 0.0, name), 0.0, 1)
            accepted[name] += refusal is None
            assert refusal is None or refusal.reason == "full"
    assert accepted == {"batch": 50, "tool": 25, "interactive": 25}


def test_a_tenant_alone_leaves_room_for_one_that_comes() -> None:
    queue = line(max_queue=100, weights={"a": 1.0, "b": 1.0})
    for tenant in ("a", "b"):
        for i in range(200):
            queue.offer(waiter(f"{tenant}{i}", 0.0, tenant=tenant), 0.0, 1)
    held = Counter(ticket[0] for ticket in order(queue, 0.0))
    assert held["a"] == 80
    assert held["b"] >= 15


def test_a_tenant_with_a_short_line_of_its_own_is_not_told_to_wait_for_the_long_one_of_another() -> None:
    queue = line(max_wait_s=20.0, weights={"a": 1.0, "b": 1.0})
    queue.ended(0.0, 1.0)
    for i in range(200):
        queue.offer(waiter(f"a{i}", 0.0, tenant="a"), 0.0, 1)
    assert len(queue) == 18
    assert queue.offer(waiter("b", 0.0, tenant="b", deadline=3.0), 0.0, 1) is None


def test_nothing_may_wait_where_no_line_is_allowed() -> None:
    refusal = line(max_queue=0).offer(waiter("x"), 0.0, 1)
    assert refusal is not None
    assert refusal.reason == "full"


# --- invariants ---

Step = tuple[str, int, int, float]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["offer", "next", "put back", "abandon", "expire", "ended"]),
            st.integers(0, 2), st.integers(0, 2), st.floats(0, 3),
        ),
        max_size=120,
    ),
    st.integers(0, 12),
)  # fmt: skip
def test_everybody_is_served_once_or_expires_or_gives_up(steps: list[Step], max_queue: int) -> None:
    queue = line(max_wait_s=8.0, ageing_s=2.0, max_queue=max_queue, weights={"t0": 3.0, "t1": 1.0})
    now, inside = 0.0, dict[str, Waiter]()
    for number, (what, rank, tenant, pause) in enumerate(steps):
        now += pause
        if what == "offer":
            comer = Waiter(str(number), now, now + 1 + 10 * pause, rank + 0.25, f"t{tenant}", number % 7)
            if queue.offer(comer, now, 2) is None:
                inside[comer.ticket] = comer
        elif what in ("next", "put back"):
            served = queue.next(now, *ROOM)
            if served is not None:
                assert now < min(served.deadline, served.since + 8.0)
                if what == "put back":
                    queue.put_back(served)
                else:
                    del inside[served.ticket]
        elif what == "abandon" and inside:
            ticket = min(inside)
            queue.abandon(ticket)
            del inside[ticket]
        elif what == "expire":
            for gone in queue.expire(now):
                assert now >= min(gone.deadline, gone.since + 8.0)
                del inside[gone.ticket]
        elif what == "ended":
            queue.ended(now, pause)
        queue.validate()
        assert len(queue) <= min(len(inside), max_queue)
    gone = {waiter.ticket for waiter in queue.expire(now)}
    assert {waiter.ticket for waiter in iter(lambda: queue.next(now, *ROOM), None)} | gone == inside.keys()


# --- overload, in virtual time ---


@dataclass
class Load:
    """Poisson arrivals of one kind."""

    rate: float
    name: str = "interactive"
    tenant: str = ""
    tokens: int = 10
    done: int = 0
    used: float = 0.0
    refused: int = 0
    expired: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def success(self) -> float:
        return self.done / (self.done + self.refused + self.expired)


def overload(queue: Line, loads: Iterable[Load], *, places: int = 10, service_s: float = 1.0, seconds: float) -> None:
    """A pool of so many places that are given in the order of the line. The first quarter is not counted."""
    rng = random.Random(7)
    loads = list(loads)
    by_ticket: dict[str, Load] = {}
    events: list[tuple[float, int, str, int]] = []
    for i, load in enumerate(loads):
        heapq.heappush(events, (rng.expovariate(load.rate), i, "arrives", i))
    busy, number = 0, len(loads)

    def begin(now: float, load: Load, waited_s: float) -> None:
        nonlocal number
        number += 1
        if now > seconds / 4:
            load.done += 1
            load.used += load.tokens
            load.waits.append(waited_s)
        heapq.heappush(events, (now + rng.uniform(0.5, 1.5) * service_s, number, "ends", 0))

    while events[0][0] < seconds:
        now, _, what, i = heapq.heappop(events)
        if what == "arrives":
            load = loads[i]
            number += 1
            heapq.heappush(events, (now + rng.expovariate(load.rate), number, "arrives", i))
            comer = Waiter(str(number), now, now + 60.0, LEVELS[load.name], load.tenant, load.tokens)
            by_ticket[comer.ticket] = load
            if busy < places and queue.come(comer, now, places - busy, places):
                busy += 1
                begin(now, load, 0.0)
            elif queue.offer(comer, now, places) is not None and now > seconds / 4:
                load.refused += 1
        else:
            queue.ended(now, service_s)
            served = queue.next(now, places - busy + 1, places)
            if served is None:
                busy -= 1
            else:
                begin(now, by_ticket[served.ticket], now - served.since)
        for gone in queue.expire(now):
            by_ticket[gone.ticket].expired += now > seconds / 4


@pytest.mark.parametrize("weights", [{}, {"a": 1.0, "b": 1.0}])
def test_interactive_calls_succeed_and_hardly_wait_while_batch_floods_at_twelve_times_the_capacity(
    weights: dict[str, float],
) -> None:
    queue = line(weights=weights)
    person, flood = Load(5.0, tenant="a"), Load(120.0, "batch", tenant="b" if weights else "a")
    overload(queue, [person, flood], seconds=400.0)
    assert person.success >= 0.99
    assert sorted(person.waits)[int(0.99 * len(person.waits))] < 2.0
    assert flood.done >= 0.9 * (10 - 5) * 300  # and no capacity is wasted


@pytest.mark.parametrize("strategy", ["bounded", "deadline"])
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_two_tenants_at_ten_to_one_demand_get_their_shares_within_a_tenth(strategy: str, weight: float) -> None:
    queue = line(strategy=strategy, max_queue=200, weights={"loud": 1.0, "modest": weight})
    loud, modest = Load(300.0, tenant="loud"), Load(30.0, tenant="modest", tokens=10)
    overload(queue, [loud, modest], seconds=200.0)
    share = modest.used / (modest.used + loud.used)
    assert share == pytest.approx(weight / (1 + weight), rel=0.1)


def test_tenants_with_large_and_small_calls_share_tokens() -> None:
    queue = line(max_queue=200, weights={"large": 1.0, "small": 1.0})
    large, small = Load(30.0, tenant="large", tokens=100), Load(30.0, tenant="small", tokens=20)
    overload(queue, [large, small], seconds=200.0)
    assert large.used == pytest.approx(small.used, rel=0.1)


def test_at_three_times_the_capacity_what_is_accepted_is_answered_and_no_place_is_idle() -> None:
    queue = line(max_wait_s=5.0)
    load = Load(30.0)
    overload(queue, [load], seconds=400.0)
    assert load.done >= 0.95 * 10 * 300
    assert load.expired <= 0.02 * load.done
    assert max(load.waits) <= 5.0
