"""The accounts actor: the one place that knows what everybody has used.

A limiter in every process would let N processes pass N times the limit, so all routers ask here. Rates live in memory:
after a restart, everybody has a fresh burst. Budgets are durable: a reservation is acknowledged only when it is on
disk, and many that come together share one commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from rayflow.actors.inflight import InFlight
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.messages import Ack, Balance, Payload, Reserve, Reserved, Settle
from rayflow.runtime.accounts import Accounts
from rayflow.runtime.limits import Limits
from rayflow.runtime.ports import Books, Handler
from rayflow.runtime.rates import Rates

log = logging.getLogger(__name__)

ADDRESS = "accounts/0"
GRACE_S = 60.0
"""How long after the longest possible run its reservation expires."""
EXPIRY_S = 5.0
"""Between two looks for reservations that have expired."""


class AccountKeeper:
    def __init__(self, address: str, config: WorkflowConfig, books: Books, clock: Clock) -> None:
        limits = Limits(config)
        self._rates = Rates(limits)
        self._accounts = Accounts(limits, config.processing.request_timeout_s + GRACE_S)
        self._limits = limits
        self._books = books
        self._clock = clock
        self._busy = InFlight(address)
        self._expiring: asyncio.Task[None] | None = None

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {Reserve: self._reserve, Settle: self._settle}

    async def start(self) -> None:
        await self._books.open()
        reservations = await self._books.reservations()
        balances: dict[str, Balance] = {}
        for made in reservations:
            names = [counted.name for counted in self._limits.budgets(made.tenant, made.user_id)]
            missing = [name for name in names if name not in balances]
            balances |= {balance.name: balance for balance in await self._books.balances(missing)}
        self._accounts.open(reservations, balances.values(), self._clock.now())
        self._expiring = asyncio.get_running_loop().create_task(self._expire())

    async def drain(self, budget_s: float) -> list[str]:
        return await self._busy.drain(budget_s)

    async def stop(self) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
        await self._books.close()

    async def _reserve(self, request: Reserve) -> Reserved:
        with self._busy.working(request.run_id):
            while missing := self._accounts.unknown(request.tenant, request.user_id):
                self._accounts.load(missing, await self._books.balances(missing))
            # From here to the write nothing waits: check, take and the order of writes are one step.
            run_id, tenant, user_id, now = request.run_id, request.tenant, request.user_id, self._clock.now()
            opened = not self._accounts.is_open(run_id)
            if opened:
                self._rates.check(run_id, tenant, user_id, now)
            booking = self._accounts.reserve(request, now, self._clock.wall_us())
            self._rates.take(run_id, tenant, user_id, now)
            try:
                # Of a run that is reserved for already, the first write may still be under way: it is waited for.
                if not (opened and booking.empty):
                    await self._books.write(booking)
            except WorkflowError:
                if opened:
                    self._accounts.settle(Settle(run_id, void=True))
                raise
        return Reserved()

    async def _settle(self, request: Settle) -> Ack:
        with self._busy.working(request.run_id):
            booking = self._accounts.settle(request)
            if not booking.empty:
                await self._books.write(booking)
        return Ack()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_S)
            for booking in self._accounts.expire(self._clock.now()):
                log.warning("run %s was never settled: what was reserved for it counts as used", booking.gone[0])
                try:
                    await self._books.write(booking)
                except WorkflowError as error:
                    log.error("an expired reservation could not be written down: %s", error)
