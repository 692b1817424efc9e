"""Caches as a whole: what all actors count, and having kept answers forgotten everywhere at once.

To forget is to count: the number becomes part of the keys of answers, so nobody finds an earlier one. It is written to
the tenant's records first, for routers that are not there now, and then told to those that are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from functools import partial

import msgspec

from rayflow.actors.persistence import persist
from rayflow.app.client import SystemClient
from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import Conflict, NotFound, Unavailable, WorkflowError
from rayflow.events import Event
from rayflow.messages import CacheCounts, Caches, ForgetAnswers, GetCaches, ReadRecords, RecordWrite, WriteRecords
from rayflow.messages.caches import EVERYTHING, FORGOTTEN, KIND
from rayflow.messages.records import TENANT

TIMEOUT_S = 5.0
COUNT_TIMEOUT_S = 2.0
TRIES = 10
"""Others may have something forgotten at the same time."""

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(dict[str, int]).decode


class CacheDesk:
    """Raises `Unavailable` where a store or a router cannot be asked."""

    def __init__(self, client: SystemClient) -> None:
        self._client = client
        self._config = client.config

    async def counts(self) -> list[CacheCounts]:
        """The sums over all actors that answer, by cache and level."""
        routers = self._client.fabric.directory.addresses("router/")
        results = self._config.caches.results
        stores = self._client.shards.addresses if results.enabled and results.levels != ["router"] else ()
        found = await asyncio.gather(*map(self._counts_of, [*routers, *stores]))
        return total(counts for caches in found for counts in caches)

    async def forget(self, tenant: str, agent: str = "") -> None:
        """Have all answers of a tenant forgotten, or those in which an agent has a part. When this returns, no run
        that has not looked yet gets one of them. Raises `NotFound` for an agent that there is not."""
        if agent and agent not in {entry.name for entry in self._config.agents}:
            raise NotFound(f"the workflow has no agent {agent!r}", kind="agent", id=agent)
        counts = await self._count_up(tenant, FORGOTTEN, agent)
        await self._tell(ForgetAnswers(tenant, counts=counts))
        self._record(tenant, agent)

    async def forget_everything(self) -> None:
        """The same for the answers of all tenants."""
        counts = await self._count_up("", EVERYTHING, "")
        await self._tell(ForgetAnswers(everywhere=counts[""]))
        self._record("", "", everything=True)

    async def _count_up(self, tenant: str, name: str, agent: str) -> dict[str, int]:
        """The counts as they are then. They are times, so that they grow also where the record was erased."""
        for _ in range(TRIES):
            read = await self._client.shards.records(ReadRecords(tenant, TENANT, KIND, [name]))
            version = read.records[0].version if read.records else 0
            counts = _decode(read.records[0].value) if read.records else {}
            counts[agent] = max(counts.get(agent, 0) + 1, self._client.now_us())
            write = RecordWrite(KIND, name, _encode(counts), version)
            try:
                await self._client.shards.records(WriteRecords(tenant, TENANT, [write]))
            except Conflict:
                continue
            return counts
        raise Unavailable("others keep having answers forgotten: try again", retry_after_s=1)

    async def _tell(self, message: ForgetAnswers) -> None:
        """All routers at once. One that is gone knows nothing to forget."""
        fabric = self._client.fabric
        routers = fabric.directory.addresses("router/")
        asks = (partial(fabric.ask, at, message, TIMEOUT_S) for at in routers)
        said = await asyncio.gather(
            *(persist(ask, SYSTEM_CLOCK, repeatable=True) for ask in asks), return_exceptions=True
        )
        for at, answer in zip(routers, said, strict=True):
            if isinstance(answer, WorkflowError):
                raise Unavailable(
                    f"{at} could not be told: it may give earlier answers for up to 30 s; ask again to be sure",
                    retry_after_s=1,
                ) from answer
            if isinstance(answer, BaseException):
                raise answer

    async def _counts_of(self, address: str) -> list[CacheCounts]:
        try:
            caches: Caches = await self._client.fabric.ask(address, GetCaches(), COUNT_TIMEOUT_S)
        except WorkflowError:  # it is being replaced
            return []
        return caches.caches

    def _record(self, tenant: str, agent: str, everything: bool = False) -> None:
        facts = {"everything": True} if everything else {}
        event = Event(
            "cache.invalidated", self._client.now_us(), self._client.address, tenant=tenant, agent=agent, data=facts
        )
        self._client.emit(event)


def total(counts: Iterable[CacheCounts]) -> list[CacheCounts]:
    """One for each cache and level."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * 5)
    for each in counts:
        known = sums[each.cache, each.level]
        for place, number in enumerate((each.hits, each.misses, each.stores, each.evictions, each.entries)):
            known[place] += number
    return [CacheCounts(*name, *numbers) for name, numbers in sums.items()]
