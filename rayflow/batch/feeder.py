"""The feeder actor: runs rows of batch jobs for whoever owns them, several jobs at a time where several ask.

It decides nothing: what it does is in its `engagement` with the owner of each job, who asks a few times a second how
far it is. An owner that is silent for too long has died; nothing more is begun for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from rayflow.app.client import SystemClient
from rayflow.batch.engagement import Engagement
from rayflow.batch.runner import RunClient
from rayflow.clock import SYSTEM_CLOCK, Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Unavailable
from rayflow.messages import Advance, Advanced, Payload
from rayflow.runtime.ports import Fabric, Handler

WATCH_S = 1.0
FORSAKEN_S = 10.0
"""After so long without a word of its owner, a job goes on with its next start."""


class Client(RunClient, Protocol):
    """Who runs the rows."""

    def close(self) -> None: ...


class Feeder:
    """A `runtime.ports.Actor`."""

    def __init__(self, address: str, client: Client, clock: Clock) -> None:
        self._address = address
        self._client = client
        self._clock = clock
        self._works: dict[str, Engagement] = {}
        """By job."""
        self._leaving = False

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {Advance: self._advance}

    async def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def drain(self, budget_s: float) -> list[str]:
        """Rows in flight are finished. What is left has no row, and is run by another one."""
        self._leaving = True
        works = [*self._works.values()]
        for work in works:
            work.halt()
        with suppress(TimeoutError):
            async with asyncio.timeout(budget_s):
                await asyncio.gather(*(work.over.wait() for work in works))
        return []

    async def stop(self) -> None:
        self._watching.cancel()
        for work in [*self._works.values()]:
            await work.drop()
        self._works.clear()
        self._client.close()

    async def _advance(self, message: Advance) -> Advanced:
        found = self._works.get(message.job_id)
        if message.order == "drop":
            if found is not None and found.name == message.work:
                del self._works[message.job_id]
                await found.drop()
            return Advanced(message.work, closed=True)
        if found is None or not found.continues(message):
            if self._leaving:
                raise Unavailable(f"{self._address} is leaving")
            before, found = found, Engagement(self._address, self._client, message, self._clock)
            self._works[message.job_id] = found
            if before is not None:
                await before.drop()
        return await found.advance(message)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for job_id, work in [*self._works.items()]:
                if self._clock.now() - work.heard > FORSAKEN_S:
                    work.halt()
                    if work.over.is_set():
                        del self._works[job_id]


def build(address: str, config: WorkflowConfig, fabric: Fabric) -> Feeder:
    """The actor at this address; the composition root finds this by name."""
    return Feeder(address, SystemClient(fabric, f"client/{address}", config), SYSTEM_CLOCK)
