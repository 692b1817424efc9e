"""What stays in the session of a run that was cut: cancelled, left by its client, or failed half way.

The question stays, and of the answer what its client was given, as a turn marked partial. Who knows what that is? Its
replica says how far it had come (`Spent`), unless it was done in this very moment. A client that left says what it was
given (`Shown`). One that is still there is asked: where it was given nothing, it takes nothing more, else it gets the
rest with the error. A run that is rolled back leaves nothing in its session, only its trail in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from rayflow.actors.delivery import CLIENT_S, void
from rayflow.actors.spending import prompt_tokens, tokens_of
from rayflow.actors.underway import UnderWay
from rayflow.actors.work import Work
from rayflow.chat import Message, Usage
from rayflow.clock import Clock, deadline
from rayflow.errors import NotFound, WorkflowError
from rayflow.events import Event
from rayflow.messages import Appended, RollBackRun
from rayflow.runtime.part import PartState
from rayflow.runtime.ports import Fabric

log = logging.getLogger(__name__)

HEAR_S = 1.0
"""How long a replica or a client may take to say what it knows."""
SETTLE_S = 10.0
"""How long it may take to store what is left."""


class Append(Protocol):
    """How a router appends to the session of a run."""

    def __call__(
        self, work: Work, messages: list[Message], *, agent: str, partial: bool, usage: Usage
    ) -> Awaitable[Appended]: ...


class Remains:
    """`record` takes the events of a run; `ask_store` asks the store of its session."""

    def __init__(
        self,
        append: Append,
        ask_store: Callable[[Work, RollBackRun], Awaitable[object]],
        record: Callable[[Work, Event], None],
        fabric: Fabric,
        clock: Clock,
    ) -> None:
        self._append = append
        self._ask_store = ask_store
        self._record = record
        self._fabric = fabric
        self._clock = clock

    def any_of(self, work: Work, under_way: UnderWay) -> bool:
        """Whether a run that was cut may have left something to keep or to take back."""
        if work.slot is None or work.request.stateless:
            return False
        return under_way.rollback or (work.request.stream and any(part.replica for part in work.run.parts))

    async def settle(self, work: Work, under_way: UnderWay, error: BaseException) -> None:
        """Keep it, or take it back. What cannot be stored is lost, and logged."""
        deadline.set(self._clock.now() + SETTLE_S)
        if isinstance(error, asyncio.CancelledError):
            await self._hear_usage(work, under_way)
        try:
            if under_way.rollback:
                await self._roll_back(work)
            else:
                await self._keep(work, under_way, error)
        except WorkflowError as failure:
            log.warning("what run %s has left could not be stored: %s", work.request.run_id, failure)

    async def _hear_usage(self, work: Work, under_way: UnderWay) -> None:
        """Record what the parts that were cancelled had used."""
        for part in work.run.parts:
            if work.account and part.replica and part.reply is None and part.error is None:
                spent = await under_way.hear_spent(part.agent, HEAR_S)
                if spent is not None:
                    event = work.run.part_cut(part, spent.usage, self._clock.now(), self._clock.wall_us())
                    self._record(work, event)

    async def _keep(self, work: Work, under_way: UnderWay, error: BaseException) -> None:
        text = under_way.partial = await self._shown(work, under_way, error)
        if isinstance(error, WorkflowError):
            error.details.pop("partial", None)
            error.details.update({"partial": text} if text else {})
        if text:
            part = work.run.speaker
            if part is not None:
                self._estimate(work, part, text)
            agent = part.agent if part and len(work.run.parts) == 1 else ""
            answer, usage = Message("assistant", text), work.run.usage
            appended = await self._append(work, [answer], agent=agent, partial=True, usage=usage)
            facts = {"role": "assistant", "turn": appended.last_seq, "chars": len(text), "partial": True}
            self._record(work, work.run.event("turn.committed", self._clock.wall_us(), agent=agent, data=facts))

    def _estimate(self, work: Work, part: PartState, text: str) -> None:
        """Where nobody says what the part had used, for its replica had just finished, say what is known."""
        if part.replica and part.reply is None and part.error is None and part.cut is None:
            usage = Usage(prompt_tokens(work.context), tokens_of(len(text)), estimated=True)
            self._record(work, work.run.part_cut(part, usage, self._clock.now(), self._clock.wall_us()))

    async def _shown(self, work: Work, under_way: UnderWay, error: BaseException) -> str:
        """The part of the answer that the client was given, or will be given with the error."""
        part = work.run.speaker
        if part is None or not work.run.tokens_to(part):
            return ""
        text = ""
        if isinstance(error, WorkflowError):
            text = str(error.details.get("partial", ""))
        elif part.reply is not None:
            text = part.reply.text
        elif spent := under_way.spent_by(part.agent):
            text = spent.text
        if isinstance(error, asyncio.CancelledError) and not under_way.stopped:
            shown = await under_way.hear_shown(HEAR_S)
            return text[: len(shown)] if text else shown
        voided = await void(self._fabric, work, part, CLIENT_S)
        if voided is None:
            return text
        return (text or voided.text) if voided.delivered else ""

    async def _roll_back(self, work: Work) -> None:
        request = work.request
        try:
            await self._ask_store(work, RollBackRun(request.tenant, request.session_id, request.run_id))
        except NotFound:
            return  # it had not written yet
