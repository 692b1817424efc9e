"""A run that goes to several agents: all are asked side by side, and one answer is made of what comes back.

A part that fails is left out, and so is one that is late: whose answer is not there `part_timeout_s` after enough
others. Its call is cancelled, and with it the model's answer. As soon as too few parts can still succeed, the rest is
cancelled, and the run fails.

Where the joined answer begins with that of the first agent (`policies.merging.leads`), that one is streamed meanwhile.
What the client has read of it stands. So a leading part that was begun to be read is never late; when it fails, the
run fails, as it does with one agent; and before anything of it was read, it may be left out like any other.

Where all have failed, and one agent alone would have been answered for by `resilience.degraded_message`, so is the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from rayflow.actors.delivery import delivered
from rayflow.actors.persistence import persist
from rayflow.actors.work import Work
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import (
    CircuitOpen,
    DeadlineExceeded,
    ExecutionError,
    Overloaded,
    PoisonMessage,
    Unavailable,
    WorkflowError,
)
from rayflow.events import Event
from rayflow.messages import AgentReply, Joined, JoinParts, Part
from rayflow.policies.fallback import leads_to
from rayflow.policies.merging import leads
from rayflow.policies.prices import entry_of
from rayflow.runtime.part import PartState
from rayflow.runtime.ports import Fabric

AGGREGATOR = "aggregator/0"
DEGRADED = "degraded"
"""In the place of a strategy: nothing was joined."""


class Answering:
    """`ask` gets the answer to one part, and tells the run and the log of it. `record` takes the events of a run."""

    def __init__(
        self,
        config: WorkflowConfig,
        ask: Callable[[Work, PartState], Coroutine[Any, Any, AgentReply]],
        record: Callable[[Work, Event], None],
        fabric: Fabric,
        clock: Clock,
    ) -> None:
        self._limit_s = config.processing.request_timeout_s
        self._part_timeout_s = config.aggregation.part_timeout_s
        self._min_parts = config.aggregation.min_parts
        self._leads = leads(config.aggregation)
        judge = config.aggregation.judge_model
        self._judge = entry_of(config.model(judge)) if judge is not None else None
        self._degraded_message = config.resilience.degraded_message
        self._roles = {agent.name: agent.role for agent in config.agents}
        self._ask = ask
        self._record = record
        self._fabric = fabric
        self._clock = clock

    async def answer(self, work: Work) -> Joined:
        """The joined answer of all parts of a run. Moves the run to "answered".

        Raises `PoisonMessage`, what the leading part failed with after it had begun, and, where fewer than `min_parts`
        succeeded, the error that all others have in common, or `ExecutionError`; and what asking the aggregator raises.
        """
        run, request = work.run, work.request
        if self._leads and request.stream and request.client:
            run.lead = run.parts[0]
        gathering = _Gathering(self, work)
        try:
            late = await gathering.gather()
        except WorkflowError:
            if not (self._degraded_message and gathering.hopeless):
                raise
            return self._degraded(work)
        started = self._clock.now()
        question = JoinParts(
            request.run_id,
            request.messages[-1].text,
            [self._part(work, part, part in late) for part in run.parts],
            lead=run.lead.agent if run.lead else "",
        )
        joined: Joined = await persist(
            lambda: self._fabric.ask(AGGREGATOR, question, self._left()), self._clock, repeatable=True
        )
        run.answered(joined)
        took_s, wall_us = self._clock.now() - started, self._clock.wall_us()
        if self._judge is not None and joined.usage.total_tokens:
            self._record(work, run.side_call(self._judge, "judge", joined.usage, took_s, wall_us))
        self._record(work, run.aggregated(joined, took_s, wall_us))
        return joined

    def _degraded(self, work: Work) -> Joined:
        joined = Joined(self._degraded_message, DEGRADED, 0.0, [], {"degraded": True})
        work.run.answered(joined)
        self._record(work, work.run.aggregated(joined, 0.0, self._clock.wall_us()))
        return joined

    def _part(self, work: Work, part: PartState, late: bool) -> Part:
        decision, reply = work.run.decision, part.reply
        assert decision is not None, "a run has parts when it is routed"
        confidences = dict(zip(decision.agents, decision.confidences, strict=False))
        return Part(
            part.agent,
            text=reply.text if reply else "",
            error="" if reply else part.error.message if part.error else "no answer",
            role=self._roles.get(part.agent, ""),
            duration_ms=reply.duration_ms if reply else 0.0,
            confidence=confidences.get(part.routed_to, decision.confidence),
            finish_reason=reply.finish_reason if reply else "stop",
            late=late,
        )

    def _left(self) -> float:
        return remaining_s(self._clock.now(), self._limit_s)


class _Gathering:
    """The parts of one run while they are at work."""

    def __init__(self, shell: Answering, work: Work) -> None:
        self._shell = shell
        self._work = work
        self._run = work.run
        self._need = min(shell._min_parts, len(work.run.parts))
        self._errors: dict[PartState, WorkflowError] = {}
        self._tasks = {asyncio.create_task(shell._ask(work, part)): part for part in work.run.parts}

    async def gather(self) -> set[PartState]:
        """Wait for all that is to be waited for. The parts that were late."""
        try:
            return await self._watch()
        finally:
            await _cancel(self._tasks)

    @property
    def hopeless(self) -> bool:
        """Whether every part has failed, in a way that a fallback is for, and the client has read nothing."""
        errors = self._errors
        return len(errors) == len(self._run.parts) and self._run.lead is None and all(map(leads_to, errors.values()))

    async def _watch(self) -> set[PartState]:
        patience_s, until = self._shell._part_timeout_s, None
        pending: set[asyncio.Task[AgentReply]] = set(self._tasks)
        late: set[PartState] = set()
        while pending:
            left_s = None if until is None else max(0.0, until - self._now())
            done, pending = await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await self._ended(task)
            answered = sum(bool(part.reply and part.reply.text.strip()) for part in self._run.parts)
            if answered + len(pending) < self._need:
                raise self._too_few(answered)
            if until is None and patience_s is not None and answered >= self._need:
                until = self._now() + patience_s
            if until is not None and self._now() >= until:
                late = await self._leave_out(pending)
                pending = {task for task in pending if not task.done()}
                until = patience_s = None
        return late

    async def _ended(self, task: asyncio.Task[AgentReply]) -> None:
        """A part is over. Raises where its failure is that of the run."""
        error = task.exception()
        if error is None:
            return
        if isinstance(error, PoisonMessage) or not isinstance(error, WorkflowError):
            raise error
        part = self._tasks[task]
        if part is self._run.lead and not await self._withdrawn(part):
            raise error
        self._errors[part] = error

    async def _leave_out(self, pending: set[asyncio.Task[AgentReply]]) -> set[PartState]:
        """Give up the parts that are late; all but a leading one that is being read."""
        out = {task for task in pending if self._tasks[task] is not self._run.lead}
        await _cancel(out)
        for task in pending - out:
            if await self._withdrawn(self._tasks[task]):
                await _cancel([task])
                out.add(task)
        late = {part for task in out if (part := self._tasks[task]).reply is None and part.error is None}
        for part in late:
            error = DeadlineExceeded(
                f"not there {self._shell._part_timeout_s:.3g} s after others: left out", agent=part.agent
            )
            now, wall_us = self._now(), self._shell._clock.wall_us()
            self._shell._record(self._work, self._run.part_failed(part, error, now, wall_us))
        return late

    async def _withdrawn(self, lead: PartState) -> bool:
        """Whether the leading part was stopped before the client had read any of it."""
        if await delivered(self._shell._fabric, self._work, lead, self._shell._left()) != 0:
            return False
        self._run.lead = None
        return True

    def _too_few(self, answered: int) -> WorkflowError:
        """Where all have failed for a reason that goes away, it is the run's, too."""
        parts, errors = self._run.parts, self._errors
        failed = {
            part.agent: errors[part].message if part in errors else "empty answer"
            for part in parts
            if part in errors or part.reply
            if not (part.reply and part.reply.text.strip())
        }
        reasons = "; ".join(f"{agent}: {why}" for agent, why in failed.items())
        so_far = f"{answered} of {len(parts)} agents answered, {self._need} must (aggregation.min_parts)"
        message = f"{so_far if answered else 'no agent answered'}: {reasons}"
        for kind in (CircuitOpen, Overloaded, Unavailable, DeadlineExceeded):
            if len(errors) == len(failed) and all(isinstance(error, kind) for error in errors.values()):
                waits = [error.retry_after_s for error in errors.values() if error.retry_after_s is not None]
                return kind(message, failed=failed, **({"retry_after_s": max(waits)} if waits else {}))
        return ExecutionError(message, failed=failed)

    def _now(self) -> float:
        return self._shell._clock.now()


async def _cancel(tasks: Collection[asyncio.Task[AgentReply]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
