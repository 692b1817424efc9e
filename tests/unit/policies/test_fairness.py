"""Tenants share by weight, in tokens, whatever they ask for."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.fairness import FairQueue


def drain(queue: FairQueue, turns: int) -> list[str]:
    found = []
    for _ in range(turns):
        ticket = queue.pop()
        assert ticket is not None
        found.append(ticket)
        queue.validate()
    return found


def fill(queue: FairQueue, tenant: str, count: int, cost: float = 1.0, start: int = 0) -> None:
    for i in range(start, start + count):
        queue.push(f"{tenant}{i}", tenant, float(i), cost, float(i))


def test_within_a_tenant_the_lowest_order_goes_next() -> None:
    queue = FairQueue({})
    for ticket, order in (("late", 2.0), ("early", 1.0), ("last", 3.0)):
        queue.push(ticket, "", order, 1.0, 0.0)
    assert drain(queue, 3) == ["early", "late", "last"]
    assert queue.pop() is None


@pytest.mark.parametrize("demand", [1, 10])
def test_two_tenants_get_their_shares_however_much_one_asks_for(demand: int) -> None:
    queue = FairQueue({"a": 3.0, "b": 1.0})
    fill(queue, "b", 200 * demand)
    fill(queue, "a", 200)
    turns = Counter(ticket[0] for ticket in drain(queue, 200))
    assert turns["a"] == pytest.approx(150, abs=1)


def test_shares_are_of_tokens_and_not_of_calls() -> None:
    queue = FairQueue({})
    fill(queue, "a", 100, cost=400)
    fill(queue, "b", 400, cost=100)
    turns = Counter(ticket[0] for ticket in drain(queue, 250))
    assert turns["a"] == pytest.approx(50, abs=1)


def test_who_was_idle_gets_no_credit_for_it() -> None:
    queue = FairQueue({})
    fill(queue, "a", 100)
    drain(queue, 50)
    fill(queue, "b", 100)
    turns = Counter(ticket[0] for ticket in drain(queue, 40))
    assert turns == {"a": 20, "b": 20}


def test_who_comes_and_goes_cannot_get_more_than_its_share() -> None:
    queue = FairQueue({})
    fill(queue, "a", 100)
    queue.push("b0", "b", 0.0, 10.0, 0.0)
    turns: deque[str] = deque()
    for i in range(1, 45):
        turns += drain(queue, 1)
        if turns[-1].startswith("b"):
            queue.push(f"b{i}", "b", 0.0, 10.0, 0.0)  # again at once, each time ten times as large
    assert Counter(ticket[0] for ticket in turns)["b"] == pytest.approx(4, abs=1)


def test_a_tenant_that_has_nobody_waiting_is_forgotten() -> None:
    queue = FairQueue({})
    fill(queue, "keeper", 3000)
    for i in range(1000):
        queue.push(f"x{i}", f"tenant{i}", 0.0, 1.0, 0.0)
        drain(queue, 2)
    assert len(queue._flows) < 10


def test_those_removed_from_the_middle_are_neither_served_nor_kept() -> None:
    queue = FairQueue({})
    fill(queue, "a", 1000)
    for i in range(990):
        queue.remove(f"a{i}")
        queue.validate()
    queue.remove("a0")
    assert len(queue) == 10
    assert drain(queue, 10) == [f"a{i}" for i in range(990, 1000)]


Step = tuple[str, int, float]


@given(st.lists(st.tuples(st.sampled_from(["push", "pop", "remove"]), st.integers(0, 3), st.floats(1, 1000))))
def test_everyone_that_came_is_served_once_or_was_removed(steps: list[Step]) -> None:
    queue = FairQueue({"t0": 5.0, "t1": 0.5})
    waiting: dict[str, float] = {}
    for number, (what, tenant, cost) in enumerate(steps):
        if what == "push":
            queue.push(str(number), f"t{tenant}", cost, cost, 0.0)
            waiting[str(number)] = cost
        elif what == "pop":
            ticket = queue.pop()
            assert (ticket is None) == (not waiting)
            if ticket is not None:
                del waiting[ticket]
        elif waiting:
            ticket = min(waiting)
            queue.remove(ticket)
            del waiting[ticket]
        queue.validate()
        assert len(queue) == len(waiting)
        assert queue.tokens == pytest.approx(sum(waiting.values()))


@given(
    st.lists(st.integers(1, 50), min_size=200, max_size=200),
    st.lists(st.integers(1, 50), min_size=200, max_size=200),
    st.floats(0.2, 5),
)
def test_while_two_wait_what_they_got_over_their_weights_differs_by_one_call_of_each(
    mine: list[int], yours: list[int], weight: float
) -> None:
    queue = FairQueue({"a": weight})
    got = {"a": 0.0, "b": 0.0}
    for tenant, costs in (("a", mine), ("b", yours)):
        for i, cost in enumerate(costs):
            queue.push(f"{tenant}{i}", tenant, float(i), float(cost), 0.0)
    for _ in range(150):
        ticket = queue.pop()
        assert ticket is not None
        tenant, number = ticket[0], int(ticket[1:])
        got[tenant] += (mine if tenant == "a" else yours)[number] / (weight if tenant == "a" else 1.0)
        assert abs(got["a"] - got["b"]) <= max(mine) / weight + max(yours) + 1e-6


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 100)), min_size=1, max_size=60), st.data())
def test_taking_one_and_putting_it_back_changes_nothing(comers: list[tuple[int, int]], data: st.DataObject) -> None:
    disturbed, left_alone = (FairQueue({"t0": 3.0, "t1": 0.5}) for _ in range(2))
    places = {}
    for number, (tenant, cost) in enumerate(comers):
        places[str(number)] = (str(number), f"t{tenant}", float(number), float(cost), float(number))
        disturbed.push(*places[str(number)])
        left_alone.push(*places[str(number)])
    for _ in comers:
        for _ in range(data.draw(st.integers(0, 2))):
            ticket = disturbed.pop()
            assert ticket is not None
            disturbed.put_back(*places[ticket])
            disturbed.validate()
        assert disturbed.pop() == left_alone.pop()
