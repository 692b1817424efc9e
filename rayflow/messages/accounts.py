"""Limits and budgets: a router reserves before a run and settles after it, with the one actor that keeps the books."""

from __future__ import annotations

import msgspec

from rayflow.chat import Usage
from rayflow.messages.base import Payload


class Reserve(Payload, frozen=True, omit_defaults=True, tag=True):
    """Take a run's estimated use out of all budgets it counts against, all or nothing. Reply: `Reserved`. Refused with
    `RateLimited` or `BudgetExceeded`. Asked again for the same run, it reserves what is more than before; the run is
    counted once.

    `cost`: money, in US dollars.
    """

    run_id: str
    tenant: str = ""
    user_id: str = ""
    tokens: int = 0
    cost: float = 0.0


class Reserved(Payload, frozen=True, tag=True):
    """The run may begin."""


class Settle(Payload, frozen=True, omit_defaults=True, tag=True):
    """What a run really used; the rest of its reservation is given back. Reply: `Ack`, also for a run that is unknown
    or settled already. `void`: it never began, and does not count as a request of the budgets either."""

    run_id: str
    tokens: int = 0
    cost: float = 0.0
    void: bool = False


class Spent(Payload, frozen=True, omit_defaults=True, tag=True):
    """A replica tells the router of a call that was cut short what it had used by then, as far as it knows, and said,
    where it was streamed. `model`: as in `AgentCall`."""

    run_id: str
    agent: str
    usage: Usage
    text: str = ""
    model: str = ""


class Reservation(msgspec.Struct, frozen=True):
    """As the books keep it. `cost` in billionths of a dollar; `made_us`: microseconds since the epoch."""

    run_id: str
    tenant: str
    user_id: str
    tokens: int
    cost: int
    made_us: int


class Balance(msgspec.Struct, frozen=True):
    """What an account has used for good in the period that began at `start_us`. `cost` as in `Reservation`."""

    name: str
    start_us: int
    requests: int
    tokens: int
    cost: int


class Booking(msgspec.Struct, frozen=True):
    """One change of the books: all or nothing."""

    balances: list[Balance] = []
    made: list[Reservation] = []
    gone: list[str] = []
    """Ids of runs whose reservation ended."""

    @property
    def empty(self) -> bool:
        return not (self.balances or self.made or self.gone)
