"""Feeders that hear of their part one after the other never have more than their job, all together."""

from __future__ import annotations

import random

import pytest

from rayflow.batch.sharing import Hand, equal_part, out_of_money, share
from rayflow.batch.spec import Limits
from rayflow.batch.status import Totals
from rayflow.messages import Advanced, Lease

LEASE = {"1-1": Lease(0, "1-1")}


class Worker:
    """A feeder that uses what it was told it may, a little at a time."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.hand = Hand(f"feeder/{number}", 0.0, leases=dict(LEASE))
        self.rng = rng
        self.may = self.in_flight = 0
        self.may_spend = self.spent = 0.0

    def goes_on(self) -> None:
        self.in_flight -= self.rng.randint(0, self.in_flight)
        if self.in_flight < self.may:
            self.in_flight = self.rng.randint(self.in_flight, self.may)
        self.spent += self.rng.random() * max(0.0, self.may_spend - self.spent)

    def says(self) -> None:
        self.hand.said = Advanced("w", in_flight=self.in_flight, spent_usd=self.spent)


@pytest.mark.parametrize("seed", range(30))
def test_all_together_never_use_more_than_the_job_may(seed: int) -> None:
    rng = random.Random(seed)
    limits = Limits(rng.randint(1, 20), cost_usd=1.0)
    workers = [Worker(n, rng) for n in range(rng.randint(1, 5))]
    hands = [worker.hand for worker in workers]
    for _ in range(300):
        worker = rng.choice(workers)
        match rng.randrange(3):
            case 0:
                told = share(worker.hand, hands, limits, Totals(rows=1, cost_usd=sum(hand.spent for hand in hands)))
                assert told.cost_usd is not None
                worker.may, worker.may_spend = told.concurrency, told.cost_usd
                worker.goes_on()
                worker.says()
            case 1:
                worker.goes_on()
            case 2 if not worker.in_flight:
                worker.hand.leases = {} if worker.hand.leases else dict(LEASE)
        assert sum(each.in_flight for each in workers) <= limits.concurrency
        assert sum(each.spent for each in workers) <= 1.0 + 1e-9


def test_who_has_something_to_do_shares_all_of_it() -> None:
    hands = [Hand(f"feeder/{n}", 0.0, leases=dict(LEASE), said=Advanced("w")) for n in range(3)]
    limits = Limits(concurrency=8, rows_per_s=30.0, tokens_per_min=600)
    told = [share(hand, hands, limits, Totals()) for hand in hands]
    assert [(each.concurrency, each.rows_per_s, each.tokens_per_min) for each in told] == [
        (3, 10.0, 200.0),
        (3, 10.0, 200.0),
        (2, 10.0, 200.0),
    ]
    hands[0].leases = {}
    assert [share(hand, hands, limits, Totals()).concurrency for hand in hands] == [0, 4, 4]


def test_where_parts_are_too_small_for_a_row_one_gets_them_all_and_then_there_is_no_more() -> None:
    hungry = Advanced("w", starved=True)
    hands = [Hand(f"feeder/{n}", 0.0, leases=dict(LEASE), said=Advanced("w")) for n in range(2)]
    limits = Limits(cost_usd=1.0)
    assert [share(hand, hands, limits, Totals()).cost_usd for hand in hands] == [0.5, 0.25]
    for hand in hands:
        hand.said = hungry
    assert share(hands[1], hands, limits, Totals()).cost_usd == 0.0
    assert not out_of_money(hands[1], hands)
    assert share(hands[0], hands, limits, Totals()).cost_usd == 1.0
    assert out_of_money(hands[0], hands) and not out_of_money(hands[1], hands)


def test_parts_are_equal_but_for_one() -> None:
    assert [equal_part(10, 4, place) for place in range(4)] == [3, 3, 2, 2]
