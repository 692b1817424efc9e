"""The books of all budgets, as a state machine: reserve, then settle.

A check that reads what was used, then calls, then adds, is overshot by everybody who checks in between. So the
estimated use of a run is taken out of every budget it counts against before the run begins, all or nothing, and what it
really used replaces the estimate afterwards. What was used and what is reserved are together never more than the
budget, but for runs that used more than was estimated.

A run counts in the period in which it was reserved, also when it ends in the next. One that is never settled (its
router died) is settled as estimated after `expires_s`: nobody knows that it used less. Amounts are whole numbers, money
in billionths, so that nothing is lost in rounding.

Every change comes back as a `Booking` to write down. Accounts that nobody reserves from at the moment may be forgotten
and loaded again: `unknown` says which are needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from rayflow.config.schema import Limit
from rayflow.errors import BudgetExceeded
from rayflow.messages import Balance, Booking, Reservation, Reserve, Settle
from rayflow.runtime.limits import Counted, Limits

UNIT = 1_000_000_000
"""Parts of the currency."""
MAX_ACCOUNTS = 100_000
"""Accounts kept in memory without need."""
SOON_S = 1.0
"""When to try again where only what others have reserved is in the way."""


class Use(NamedTuple):
    requests: int = 0
    tokens: int = 0
    cost: int = 0

    def plus(self, other: Use, times: int = 1) -> Use:
        return Use(*(mine + times * its for mine, its in zip(self, other, strict=True)))

    def within(self, limit: Limit) -> bool:
        return (
            self.requests <= _or_more(limit.max_requests, self.requests)
            and self.tokens <= _or_more(limit.max_tokens, self.tokens)
            and self.cost <= (self.cost if limit.max_cost is None else units(limit.max_cost))
        )


class _Account:
    __slots__ = ("open", "reserved", "start_us", "used")

    def __init__(self, start_us: int, used: Use) -> None:
        self.start_us = start_us
        self.used = used
        self.reserved = Use()
        self.open = 0


class Accounts:
    """`expires_s`: how long a reservation may stay unsettled."""

    def __init__(self, limits: Limits, expires_s: float, max_accounts: int = MAX_ACCOUNTS) -> None:
        self._limits = limits
        self._expires_s = expires_s
        self._max_accounts = max_accounts
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._open: dict[str, Reservation] = {}
        self._until: OrderedDict[str, float] = OrderedDict()

    def open(self, reservations: Iterable[Reservation], balances: Iterable[Balance], now: float) -> None:
        """Begin with what the books say: open reservations, and the balances of their accounts."""
        known = {balance.name: balance for balance in balances}
        for made in reservations:
            names = self._names(made.tenant, made.user_id)
            self.load(names, [known[name] for name in names if name in known])
            self._enter(made, now)
            for account, _ in self._accounts_of(made):
                account.reserved = account.reserved.plus(_use(made))
                account.open += 1

    def unknown(self, tenant: str, user_id: str) -> list[str]:
        """The accounts to `load` before a reservation of this user."""
        return [name for name in self._names(tenant, user_id) if name not in self._accounts]

    def load(self, names: Iterable[str], balances: Iterable[Balance]) -> None:
        """What the books say of these accounts; one that they do not mention is new. Those that are known stay as they
        are."""
        found = {balance.name: balance for balance in balances}
        for name in names:
            if name in self._accounts:
                self._accounts.move_to_end(name)
            else:
                balance = found.get(name, Balance(name, 0, 0, 0, 0))
                used = Use(balance.requests, balance.tokens, balance.cost)
                self._accounts[name] = _Account(balance.start_us, used)

    def is_open(self, run_id: str) -> bool:
        return run_id in self._open

    def reserve(self, request: Reserve, now: float, wall_us: int) -> Booking:
        """Raises `BudgetExceeded`, and changes nothing then. A run stays whose it was when it was first reserved."""
        before = self._open.get(request.run_id)
        whose = before or request
        budgets = self._limits.budgets(whose.tenant, whose.user_id)
        if not budgets:
            return Booking()
        made = Reservation(
            request.run_id,
            whose.tenant,
            whose.user_id,
            max(request.tokens, before.tokens if before else 0),
            max(units(request.cost), before.cost if before else 0),
            before.made_us if before else wall_us,
        )
        if made == before:
            return Booking()
        more = _use(made) if before is None else _use(made).plus(_use(before), -1)
        charged: list[tuple[_Account, int]] = []
        for counted in budgets:
            account = self._accounts.get(counted.name)
            start_us = period_start_us(counted.limit, made.made_us)
            if before is not None and (account is None or start_us < account.start_us):
                continue  # its period is over, and the next one has its own budget
            assert account is not None, "it was loaded"
            committed = Use() if start_us > account.start_us else account.used.plus(account.reserved)
            if not committed.plus(more).within(counted.limit):
                raise _exceeded(counted, account, more, wall_us)
            charged.append((account, start_us))
        for account, start_us in charged:
            _turn_over(account, start_us)
            account.reserved = account.reserved.plus(more)
            account.open += before is None
        self._enter(made, now)
        self._trim()
        return Booking(made=[made])

    def settle(self, request: Settle) -> Booking:
        """The run ended. Unknown runs change nothing."""
        made = self._open.get(request.run_id)
        if made is None:
            return Booking()
        used = Use() if request.void else Use(1, max(request.tokens, 0), units(max(request.cost, 0.0)))
        return self._close(made, used)

    def expire(self, now: float) -> list[Booking]:
        """Settle, as estimated, whatever was not settled in time."""
        late = []
        while self._until:
            run_id, until = next(iter(self._until.items()))
            if until > now:
                break
            late.append(self._close(self._open[run_id], _use(self._open[run_id])))
        return late

    # --- the books ---

    def _enter(self, made: Reservation, now: float) -> None:
        self._open[made.run_id] = made
        self._until[made.run_id] = now + self._expires_s
        self._until.move_to_end(made.run_id)

    def _close(self, made: Reservation, used: Use) -> Booking:
        del self._open[made.run_id], self._until[made.run_id]
        balances = []
        for account, name in self._accounts_of(made):
            account.reserved = account.reserved.plus(_use(made), -1)
            account.open -= 1
            account.used = account.used.plus(used)
            balances.append(Balance(name, account.start_us, *account.used))
        return Booking(balances=balances, gone=[made.run_id])

    def _accounts_of(self, made: Reservation) -> list[tuple[_Account, str]]:
        """The accounts that a reservation counts against; not those in whose next period we are already."""
        found = []
        for counted in self._limits.budgets(made.tenant, made.user_id):
            account = self._accounts.get(counted.name)
            start_us = period_start_us(counted.limit, made.made_us)
            if account is not None and start_us >= account.start_us:
                _turn_over(account, start_us)
                found.append((account, counted.name))
        return found

    def _names(self, tenant: str, user_id: str) -> list[str]:
        return [counted.name for counted in self._limits.budgets(tenant, user_id)]

    def _trim(self) -> None:
        while len(self._accounts) > self._max_accounts:
            name, account = self._accounts.popitem(last=False)
            if account.open:
                self._accounts[name] = account
                return

    def validate(self) -> None:
        """Invariants, for tests: AssertionError where one does not hold."""
        assert self._open.keys() == self._until.keys()
        for account in self._accounts.values():
            assert account.open >= 0 and min(account.reserved) >= 0 and min(account.used) >= 0
            assert account.open or account.reserved == Use()

    def committed(self, name: str) -> Use:
        """What is used and reserved of an account."""
        account = self._accounts.get(name)
        return account.used.plus(account.reserved) if account else Use()


def _turn_over(account: _Account, start_us: int) -> None:
    """A new period begins. A clock that was set back begins none."""
    if start_us > account.start_us:
        account.start_us, account.used, account.reserved, account.open = start_us, Use(), Use(), 0


def units(money: float) -> int:
    return round(money * UNIT)


def period_start_us(limit: Limit, wall_us: int) -> int:
    """When the period in which `wall_us` lies began, in UTC."""
    if limit.period == "total":
        return 0
    if limit.period == "month":
        moment = datetime.fromtimestamp(wall_us / 1e6, UTC)
        return round(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1_000_000
    return wall_us - wall_us % _PERIODS_US[limit.period]


def period_end_us(limit: Limit, wall_us: int) -> int | None:
    """When the next one begins; None where none does."""
    start_us = period_start_us(limit, wall_us)
    if limit.period == "total":
        return None
    if limit.period == "month":
        return period_start_us(limit, start_us + 32 * _PERIODS_US["day"])
    return start_us + _PERIODS_US[limit.period]


_PERIODS_US = {"minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}


def _use(made: Reservation) -> Use:
    return Use(1, made.tokens, made.cost)


def _or_more(limit: int | None, otherwise: int) -> int:
    return otherwise if limit is None else limit


def _exceeded(counted: Counted, account: _Account, more: Use, wall_us: int) -> BudgetExceeded:
    limit = counted.limit
    details: dict[str, object] = {"limit": counted.name}
    if account.used.plus(more).within(limit):
        details["retry_after_s"] = SOON_S
    elif (end_us := period_end_us(limit, wall_us)) is not None:
        details["retry_after_s"] = round((end_us - wall_us) / 1e6, 3)
    period = "in all" if limit.period == "total" else f"a {limit.period}"
    sums = [f"{limit.max_requests} requests"] if limit.max_requests is not None else []
    sums += [f"{limit.max_tokens} tokens"] if limit.max_tokens is not None else []
    sums += [f"{limit.max_cost:g} in money"] if limit.max_cost is not None else []
    return BudgetExceeded(f"{counted.whose} has a budget of {', '.join(sums)} {period}: it is used up", **details)
