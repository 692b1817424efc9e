"""Reading a run along, from its first event: for whoever lost the stream, also when the ingress that served it is gone.

The router has the coarse events of its runs, and of a part that is over the reply, which says how it was cut into
tokens. The tokens of a part that is still at work come from its replica. A follower gets both, in any order, and leaves
out what it has: events have numbers.
"""

from __future__ import annotations

from typing import NamedTuple

from rayflow.actors.underway import UnderWay
from rayflow.actors.work import Work
from rayflow.clock import Clock
from rayflow.errors import Cancelled, NotFound, WorkflowError
from rayflow.events import Event
from rayflow.messages import Follower, FollowPart, FollowRun, Replay, RunResult, Token
from rayflow.runtime.ports import Fabric
from rayflow.runtime.recordings import Recordings


class Recorded(NamedTuple):
    work: Work
    outcome: RunResult | WorkflowError


class Following:
    """The followers of one router's runs."""

    def __init__(self, fabric: Fabric, clock: Clock) -> None:
        self._fabric = fabric
        self._clock = clock
        self._recordings: Recordings[Recorded] = Recordings()

    async def follow(self, message: FollowRun, under_way: UnderWay | None) -> RunResult:
        """The result of the run, after its followers were told what there is. Raises what the run raised, and
        `NotFound`."""
        if under_way is not None and under_way.work is not None:
            work = self._checked(under_way.work, message)
            return await self._along(under_way, work, message.by)
        recorded = self._recordings.get(message.run_id, self._clock.now())
        if recorded is None:
            raise _unknown(message)
        work = self._checked(recorded.work, message)
        self._replay(work, message.by)
        if isinstance(recorded.outcome, WorkflowError):
            raise recorded.outcome
        return recorded.outcome

    def happened(self, work: Work, event: Event) -> None:
        """An event that readers see."""
        tokens: list[Token] = []
        if event.kind == "agent.finished":
            tokens = [t for part in work.run.parts if part.agent == event.agent for t in part.tokens(event.run_id)]
        for by in work.followers:
            self._fabric.tell(by.client, Replay(by.reader, tokens, [event]))

    def ended(self, work: Work, outcome: RunResult | BaseException) -> None:
        """The run of a stream is over."""
        if not isinstance(outcome, RunResult | WorkflowError):
            outcome = Cancelled("the run was cancelled", run_id=work.request.run_id)
        chars = sum(len(part.reply.text) for part in work.run.parts if part.reply)
        work.context, work.contexts, work.slot = [], {}, None  # what its readers do not see need not stay with it
        self._recordings.keep(work.request.run_id, Recorded(work, outcome), chars, self._clock.now())

    async def _along(self, under_way: UnderWay, work: Work, by: Follower) -> RunResult:
        self._replay(work, by)
        for part in work.run.parts:
            if part.replica and part.reply is None and part.error is None and work.run.tokens_to(part):
                self._fabric.tell(part.replica, FollowPart(work.request.run_id, part.agent, by))
        work.followers.append(by)
        try:
            return await under_way.over()
        finally:
            work.followers.remove(by)

    def _replay(self, work: Work, by: Follower) -> None:
        tokens = [token for part in work.run.parts for token in part.tokens(work.request.run_id)]
        if tokens or work.shown:
            self._fabric.tell(by.client, Replay(by.reader, tokens, work.shown.copy()))

    def _checked(self, work: Work, message: FollowRun) -> Work:
        """Another tenant's run does not exist, and one that was not streamed has nothing to follow."""
        if work.request.tenant != message.tenant or not work.request.stream:
            raise _unknown(message)
        return work


def _unknown(message: FollowRun) -> NotFound:
    return NotFound(
        f"there is no stream of a run {message.run_id}, or it ended too long ago: read its session",
        kind="run",
        id=message.run_id,
    )
