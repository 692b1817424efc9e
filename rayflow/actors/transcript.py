"""What a run writes to its session, and asks of its store."""

from __future__ import annotations

from typing import Any

import msgspec

from rayflow.actors.persistence import persist
from rayflow.actors.underway import digest
from rayflow.actors.work import Work
from rayflow.chat import Message, Usage
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Conflict, NotFound
from rayflow.messages import Appended, AppendTurns, Payload
from rayflow.policies.placement import owner, shard_addresses
from rayflow.runtime.ports import Fabric


class Transcript:
    """The sessions of one workflow, as its runs write them."""

    def __init__(self, config: WorkflowConfig, fabric: Fabric, clock: Clock) -> None:
        self._fabric = fabric
        self._clock = clock
        self._shards = shard_addresses(config.session.shards)
        self._limit_s = config.processing.request_timeout_s
        self.window = config.context.window if config.context.enrichment else 0
        """How many of the newest turns stay with whoever writes a session."""

    async def question(self, work: Work) -> Appended:
        """Append what is new, and learn what the session holds, where that is not known. A session that was deleted
        since its last turn begins anew under the old id."""
        slot, messages = work.owned, work.request.messages
        try:
            return await self.append(work, messages, window=0 if slot.window is not None else self.window)
        except NotFound:
            slot.forget()
            return await self.append(work, messages, window=self.window)

    async def append(
        self,
        work: Work,
        messages: list[Message],
        *,
        window: int = 0,
        agent: str = "",
        partial: bool = False,
        usage: Usage | None = None,
    ) -> Appended:
        """Append to the session. Where somebody else has written meanwhile, what is known is dropped and the append
        made after theirs: the store, not this router, has the truth."""
        slot, request = work.owned, work.request
        append = AppendTurns(
            tenant=request.tenant,
            session_id=request.session_id,
            messages=messages,
            run_id=request.run_id,
            user_id=request.user_id,
            agent=agent,
            expected_seq=slot.last_seq,
            window=window,
            partial=partial,
            usage=usage,
            digest=digest(request) if request.repeatable else "",
            lock=request.lock,
        )
        try:
            appended: Appended = await self.ask(work, append)
        except Conflict:
            slot.forget()
            appended = await self.ask(work, msgspec.structs.replace(append, expected_seq=-1, window=self.window))
        return appended

    async def ask(self, work: Work, question: Payload) -> Any:
        """Ask the store of the session, which recognises a repetition (of what this run does to it)."""
        shard = owner(work.request.session_id, self._shards)
        return await persist(lambda: self._fabric.ask(shard, question, self._left()), self._clock, repeatable=True)

    def _left(self) -> float:
        return remaining_s(self._clock.now(), self._limit_s)
