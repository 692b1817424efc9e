"""A session store actor that has a memory, too: what it does already, what `MemoryKeeper` does, and a word to that one
whenever somebody else changes the records of a user."""

from __future__ import annotations

from collections.abc import Mapping

from rayflow.actors.memories import MemoryKeeper
from rayflow.actors.memory_meaning import MemoryMeaning
from rayflow.actors.outbox import Outbox
from rayflow.clock import Clock
from rayflow.config.schema import MemoryConfig
from rayflow.messages import EraseRecords, EraseUser, ImportRecords, Payload, WriteRecords
from rayflow.messages.records import of_user
from rayflow.runtime.ports import Actor, Handler, RecordStore


class RememberingStore:
    """`store`: the one of `sessions`. `meaning`: where vectors are configured."""

    def __init__(
        self,
        address: str,
        sessions: Actor,
        store: RecordStore,
        config: MemoryConfig,
        outbox: Outbox,
        clock: Clock,
        meaning: MemoryMeaning | None = None,
    ) -> None:
        self._sessions = sessions
        self.memories = MemoryKeeper(address, config, store, outbox, clock, meaning)

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        handlers = self._sessions.handlers
        changing: tuple[type[Payload], ...] = (EraseUser, WriteRecords, EraseRecords, ImportRecords)
        noticed = {kind: self._noticed(handlers[kind]) for kind in changing}
        return {**handlers, **noticed, **self.memories.handlers}

    def _noticed(self, handler: Handler) -> Handler:
        async def handle(request: EraseUser | WriteRecords | EraseRecords | ImportRecords) -> Payload:
            owner = of_user(request.user_id) if isinstance(request, EraseUser) else request.owner
            self.memories.changed(request.tenant, owner)
            try:
                reply = handler(request)
                assert reply is not None, "these are asked, not told"
                return reply if isinstance(reply, Payload) else await reply
            finally:
                self.memories.changed(request.tenant, owner)

        return handle

    async def start(self) -> None:
        await self._sessions.start()
        await self.memories.start()

    async def drain(self, budget_s: float) -> list[str]:
        return await self._sessions.drain(budget_s)

    async def stop(self) -> None:
        await self.memories.stop()
        await self._sessions.stop()
