"""Budgets: what is used and what is reserved are together never more than there is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import Limit, WorkflowConfig
from rayflow.errors import BudgetExceeded
from rayflow.messages import Balance, Booking, Reservation, Reserve, Settle
from rayflow.runtime.accounts import UNIT, Accounts, Use, period_end_us, period_start_us
from rayflow.runtime.limits import Limits

DAY_US = 86_400 * 1_000_000
NOON_US = 20_000 * DAY_US + DAY_US // 2


class Books:
    """Accounts with everything they wrote down, and the clock."""

    def __init__(self, expires_s: float = 100.0, max_accounts: int = 1000, **limits: Any) -> None:
        config = {"name": "w", "agents": [{"name": "a"}], **limits}
        self.limits = Limits(WorkflowConfig.model_validate(config))
        self.expires_s, self.max_accounts = expires_s, max_accounts
        self.wall_us, self.now = NOON_US, 0.0
        self.balances: dict[str, Balance] = {}
        self.reservations: dict[str, Reservation] = {}
        self.accounts = Accounts(self.limits, expires_s, max_accounts)

    def reserve(self, run_id: str, tokens: int = 0, cost: float = 0.0, user: str = "u", tenant: str = "t") -> bool:
        missing = self.accounts.unknown(tenant, user)
        self.accounts.load(missing, [self.balances[name] for name in missing if name in self.balances])
        try:
            self.write(self.accounts.reserve(Reserve(run_id, tenant, user, tokens, cost), self.now, self.wall_us))
        except BudgetExceeded as refused:
            self.refused = refused
            return False
        finally:
            self.accounts.validate()
        return True

    def settle(self, run_id: str, tokens: int = 0, cost: float = 0.0, *, void: bool = False) -> None:
        self.write(self.accounts.settle(Settle(run_id, tokens, cost, void)))
        self.accounts.validate()

    def write(self, booking: Booking) -> None:
        self.balances.update((balance.name, balance) for balance in booking.balances)
        self.reservations.update((made.run_id, made) for made in booking.made)
        for run_id in booking.gone:
            del self.reservations[run_id]

    def restart(self) -> None:
        """Another process begins with what was written down."""
        self.accounts = Accounts(self.limits, self.expires_s, self.max_accounts)
        self.accounts.open(self.reservations.values(), self.balances.values(), self.now)
        self.accounts.validate()

    def committed(self, name: str) -> Use:
        return self.accounts.committed(name)


def workflow(**limit: Any) -> dict[str, Any]:
    return {"limits": {"workflow": limit}}


def test_a_thousand_at_once_against_a_budget_for_a_hundred_admits_exactly_a_hundred() -> None:
    for limit, use in (
        ({"max_requests": 100}, {}),
        ({"max_tokens": 50_000}, {"tokens": 500}),
        ({"max_cost": 1.0}, {"cost": 0.01}),
    ):
        books = Books(**workflow(**limit))
        assert sum(books.reserve(f"run{i}", **use) for i in range(1000)) == 100


def test_what_was_not_used_comes_back_and_what_was_used_does_not() -> None:
    books = Books(**workflow(max_tokens=1000))
    assert books.reserve("one", 1000)
    assert not books.reserve("two", 300)
    assert books.refused.retry_after_s == 1.0  # only a reservation is in the way
    books.settle("one", 700)
    assert books.reserve("two", 300)
    books.settle("two", 300)
    assert not books.reserve("three", 1)
    assert books.refused.retry_after_s == DAY_US / 2 / 1e6


def test_all_budgets_or_none() -> None:
    books = Books(limits={"workflow": {"max_tokens": 1000}, "user": {"max_tokens": 100}})
    assert not books.reserve("big", 500)
    assert books.committed("workflow:day").tokens == 0
    assert books.reserve("small", 100)
    assert not books.reserve("same user", 1)
    assert books.reserve("other user", 100, user="v")
    assert books.committed("workflow:day") == Use(2, 200, 0)


def test_a_run_is_counted_once_however_often_it_is_reserved_and_settled() -> None:
    books = Books(**workflow(max_requests=2, max_tokens=1000))
    for _ in range(5):
        assert books.reserve("run", 400)
    assert books.committed("workflow:day") == Use(1, 400, 0)
    for _ in range(3):
        books.settle("run", 350)
    assert books.committed("workflow:day") == Use(1, 350, 0)


def test_a_reservation_may_grow_while_there_is_room() -> None:
    books = Books(**workflow(max_tokens=1000))
    assert books.reserve("run", 400)
    assert books.reserve("run", 900)
    assert not books.reserve("run", 1001)
    assert books.reserve("run", 100)
    assert books.committed("workflow:day") == Use(1, 900, 0)


def test_a_run_stays_whose_it_was() -> None:
    books = Books(limits={"user": {"max_tokens": 1000}})
    assert books.reserve("run", 400, user="ann")
    assert books.reserve("run", 500, user="bob")
    assert [books.committed(f"user/t/{name}:day").tokens for name in ("ann", "bob")] == [500, 0]
    books.settle("run", 450)
    assert [books.committed(f"user/t/{name}:day").tokens for name in ("ann", "bob")] == [450, 0]


def test_a_run_that_never_began_counts_for_nothing() -> None:
    books = Books(**workflow(max_requests=1))
    assert books.reserve("one")
    books.settle("one", void=True)
    assert books.committed("workflow:day") == Use()
    assert books.reserve("two")


def test_a_new_period_begins_with_a_full_budget_and_a_run_counts_where_it_was_reserved() -> None:
    books = Books(**workflow(max_tokens=1000))
    assert books.reserve("yesterday", 800)
    books.wall_us += DAY_US // 2
    assert books.reserve("today", 1000)
    books.settle("yesterday", 800)
    assert books.committed("workflow:day") == Use(1, 1000, 0)
    books.settle("today", 400)
    assert books.committed("workflow:day") == Use(1, 400, 0)


def test_a_clock_that_is_set_back_opens_no_budget_twice() -> None:
    books = Books(**workflow(max_requests=1))
    assert books.reserve("one")
    books.settle("one")
    books.wall_us -= DAY_US
    assert not books.reserve("two")


def test_one_that_is_never_settled_counts_as_estimated() -> None:
    books = Books(expires_s=100.0, **workflow(max_tokens=1000))
    assert books.reserve("lost", 600)
    books.now = 99.0
    assert books.accounts.expire(books.now) == []
    books.now = 100.0
    for booking in books.accounts.expire(books.now):
        books.write(booking)
    assert books.committed("workflow:day") == Use(1, 600, 0)
    assert books.reservations == {}
    books.settle("lost", 10)  # too late
    assert books.committed("workflow:day") == Use(1, 600, 0)


def test_a_restart_remembers_what_was_used_and_what_is_reserved() -> None:
    books = Books(limits={"workflow": {"max_tokens": 1000}, "user": {"max_tokens": 600, "period": "total"}})
    assert books.reserve("used", 300)
    books.settle("used", 250)
    assert books.reserve("open", 200)
    before = [books.committed("workflow:day"), books.committed("user/t/u:total")]
    books.restart()
    assert [books.committed("workflow:day"), books.committed("user/t/u:total")] == before
    books.settle("open", 50)
    assert books.committed("workflow:day") == Use(2, 300, 0)
    assert not books.reserve("more", 301)


def test_after_a_restart_a_reservation_of_yesterday_does_not_count_today() -> None:
    books = Books(**workflow(max_tokens=1000))
    books.reserve("yesterday", 800)
    books.wall_us += DAY_US
    books.reserve("today", 100)
    books.settle("today", 100)
    books.restart()
    assert books.committed("workflow:day") == Use(1, 100, 0)
    books.settle("yesterday", 800)
    assert books.committed("workflow:day") == Use(1, 100, 0)


def test_accounts_that_nobody_reserves_from_leave_memory_and_come_back() -> None:
    books = Books(max_accounts=10, limits={"user": {"max_requests": 1}})
    for i in range(100):
        assert books.reserve(f"run{i}", user=f"user{i}")
        books.settle(f"run{i}")
    assert len(books.accounts._accounts) <= 11
    assert not any(books.reserve(f"again{i}", user=f"user{i}") for i in range(100))


def test_a_tenant_with_its_own_budget_does_not_draw_on_that_of_the_others() -> None:
    books = Books(limits={"tenant": {"max_requests": 1}}, tenants=[{"name": "big", "limit": {"max_requests": 3}}])
    assert [books.reserve(f"b{i}", tenant="big") for i in range(4)] == [True, True, True, False]
    assert [books.reserve(f"s{i}", tenant="small") for i in range(2)] == [True, False]
    assert "tenant 'small' has a budget of 1 requests a day" in books.refused.message


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("minute", "2024-02-29T13:45", "2024-02-29T13:46"),
        ("hour", "2024-02-29T13:00", "2024-02-29T14:00"),
        ("day", "2024-02-29T00:00", "2024-03-01T00:00"),
        ("month", "2024-02-01T00:00", "2024-03-01T00:00"),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(period: str, start: str, end: str) -> None:
    limit = Limit.model_validate({"period": period})
    moment = _us("2024-02-29T13:45") + 30_000_000
    assert (period_start_us(limit, moment), period_end_us(limit, moment)) == (_us(start), _us(end))


def test_a_total_never_begins_anew() -> None:
    limit = Limit(period="total")
    assert (period_start_us(limit, NOON_US), period_end_us(limit, NOON_US)) == (0, None)


def _us(moment: str) -> int:
    return round(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1e6)


Step = tuple[str, int, int, int]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "settle", "void", "restart", "wait"]),
            st.integers(0, 8), st.integers(0, 400), st.integers(0, 2),
        ),
        max_size=80,
    )
)  # fmt: skip
def test_used_and_reserved_are_never_above_the_budget(steps: list[Step]) -> None:
    limits = {"workflow": {"max_tokens": 1000, "max_requests": 5}, "user": {"max_cost": 0.5, "period": "hour"}}
    books = Books(max_accounts=2, limits=limits)
    for what, run, amount, user in steps:
        if what == "reserve":
            books.reserve(f"run{run}", amount, amount / 1000, user=f"u{user}")
        elif what == "settle":
            made = books.reservations.get(f"run{run}")
            tokens, cost = (made.tokens, made.cost / UNIT) if made else (amount, 0.0)
            books.settle(f"run{run}", min(amount, tokens), min(amount / 1000, cost))
        elif what == "void":
            books.settle(f"run{run}", void=True)
        elif what == "restart":
            books.restart()
        else:
            books.now += amount
            books.wall_us += amount * 20_000_000
            for booking in books.accounts.expire(books.now):
                books.write(booking)
        total = books.committed("workflow:day")
        assert total.tokens <= 1000
        assert total.requests <= 5
        assert all(books.committed(f"user/t/u{i}:hour").cost <= UNIT // 2 for i in range(3))
