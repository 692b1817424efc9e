"""The router actor: takes a run in and drives it through its stages (`stages`) to a durable answer.

An exception ends the run as failed, a cancellation as cancelled, and both leave a trail in the log, and in the session
what its client was given of the answer (`remains`). What belongs to the life of a run as a whole (who waits for it, who
stops it, how it ends) stands here; what is done for it on its way belongs to a stage.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from rayflow.actors import side_calls
from rayflow.actors.admission import Admission
from rayflow.actors.enrichment import NO_CONTEXT_MEANS, ContextMeans
from rayflow.actors.figures import Figures
from rayflow.actors.following import Following
from rayflow.actors.inflight import InFlight
from rayflow.actors.outbox import Outbox
from rayflow.actors.persistence import relayed
from rayflow.actors.queue import Queue
from rayflow.actors.remains import Remains
from rayflow.actors.routes import RoutingMeans
from rayflow.actors.stages import Stages
from rayflow.actors.tally import Tally
from rayflow.actors.trail import Trail
from rayflow.actors.transcript import Transcript
from rayflow.actors.turns import Turns
from rayflow.actors.underway import UnderWay
from rayflow.actors.work import Work
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.context import Context, subject
from rayflow.context import context as ambient_context
from rayflow.errors import Cancelled, Conflict, NotFound, WorkflowError
from rayflow.messages import (
    Ack,
    CancelRun,
    Demand,
    FollowRun,
    ForgetAnswers,
    GetCaches,
    GetDemand,
    GetRuns,
    GetStats,
    Payload,
    RunIds,
    RunRequest,
    RunResult,
    Sample,
    Shown,
    Spent,
    Stats,
)
from rayflow.policies.placement import router_addresses, shard_addresses
from rayflow.runtime.ports import Fabric, Handler
from rayflow.runtime.run import Run
from rayflow.tracing import Tracing

NO_MEANS = RoutingMeans()
STAGE = "rayflow_stage_duration_seconds"
AGAIN_S = 1.0
"""Between two tries to learn what was left here."""

log = logging.getLogger(__name__)


class Router:
    """`means`: what its routing strategy needs from outside; `context`: the same of what enriches the context."""

    def __init__(
        self,
        address: str,
        config: WorkflowConfig,
        fabric: Fabric,
        outbox: Outbox,
        clock: Clock,
        rng: random.Random,
        means: RoutingMeans = NO_MEANS,
        context: ContextMeans = NO_CONTEXT_MEANS,
    ) -> None:
        self._address = address
        self._workflow = config.name
        self._fabric = fabric
        self._outbox = outbox
        self._clock = clock
        self._busy = InFlight(address)
        self._runs: dict[str, UnderWay] = {}
        self._closings: dict[str, asyncio.Task[None]] = {}
        """Of runs that nobody waits for any more: what is left of them is being stored."""
        self._tally = Tally(fabric) if config.alerts.enabled and config.monitoring.event_log else None
        otel = config.monitoring.otel
        self._tracing = Tracing(otel.sample_ratio) if otel.enabled else None
        self._following = Following(fabric, clock)
        self._figures = Figures()
        self._record = record = Trail(fabric, outbox, self._following, self._figures).record
        self._admission = Admission(config, fabric, clock)
        routers, shards = router_addresses(config.processing.routers), shard_addresses(config.session.shards)
        self._queue = queue = Queue(address, routers, shards, fabric, clock)
        self._inheriting: asyncio.Task[None] | None = None
        self._inherited: set[asyncio.Task[RunResult]] = set()
        self._turns = Turns(config.context.cached_sessions, config.processing.multitask_strategy, self._runs, queue)
        transcript = Transcript(config, fabric, clock)
        self._remains = Remains(transcript.append, transcript.ask, record, fabric, clock)
        self._stages = Stages(
            address,
            config,
            fabric,
            record,
            clock,
            rng,
            means,
            context,
            self._admission,
            self._turns,
            transcript,
            self._runs,
        )
        self._way = [(stage, self._figures.spread(STAGE, stage.__name__)) for stage in self._stages.way]

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            RunRequest: self._run,
            CancelRun: self._cancel,
            FollowRun: self._follow,
            GetRuns: lambda _: RunIds(list(self._runs)),
            GetDemand: lambda _: Demand(self._stages.dispatch.demand()),
            Spent: self._spent,
            Shown: self._shown,
            GetCaches: lambda _: self._stages.caches(),
            GetStats: self._stats,
            ForgetAnswers: self._stages.forget,
        }

    async def start(self) -> None:
        """What was left waiting here goes before what is new; but that does not wait for a store that stays away."""
        await self._stages.start()
        try:
            self._inherit(await self._queue.take_over())
        except WorkflowError as error:
            log.warning("%s does not know yet what was left waiting: %s", self._address, error)
            self._inheriting = asyncio.get_running_loop().create_task(self._inherit_later())

    async def drain(self, budget_s: float) -> list[str]:
        left = await self._busy.drain(budget_s)
        await self._queue.settled()
        self._queue.close()
        if self._closings:
            await asyncio.wait(self._closings.values())
        await self._admission.settled()
        await self._stages.settled()
        return left

    async def stop(self) -> None:
        self._queue.close()
        for task in (self._inheriting, *self._inherited):
            if task is not None:
                task.cancel()
        await self._stages.stop()
        if self._tally is not None:
            self._tally.tell()
        self._outbox.close()

    async def _run(self, request: RunRequest) -> RunResult:
        with self._busy.working(request.run_id):
            while (under_way := self._runs.get(request.run_id)) is not None:
                under_way.check_same(request)
                if not under_way.deserted:
                    under_way.heard_by(request)
                    return await under_way.end()
                await under_way.gone()
            self._stages.dispatch.admit(request.run_id)
            under_way = self._runs[request.run_id] = UnderWay(request)
            if not request.repeatable:
                return await self._work(under_way)
            # Others may come to wait for it, so it must not end with who came first.
            working = asyncio.get_running_loop().create_task(self._work(under_way))
            working.add_done_callback(_heard)
            return await under_way.end()

    async def _inherit_later(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_S)
            with suppress(WorkflowError):
                return self._inherit(await self._queue.take_over())

    def _inherit(self, requests: list[RunRequest]) -> None:
        """Go on with what waited here when the last router at this address ended."""
        for request in requests:
            if request.run_id not in self._runs:
                under_way = self._runs[request.run_id] = UnderWay(request, inherited=True)
                task = asyncio.get_running_loop().create_task(self._go_on(under_way))
                self._inherited.add(task)
                task.add_done_callback(self._inherited.discard)
                task.add_done_callback(_heard)

    async def _go_on(self, under_way: UnderWay) -> RunResult:
        with self._busy.working(under_way.request.run_id):
            return await self._work(under_way)

    async def _work(self, under_way: UnderWay) -> RunResult:
        under_way.begin()
        outcome: RunResult | BaseException
        try:
            outcome = await self._drive(under_way)
        except BaseException as error:
            outcome = self._told(under_way, error)
            raise outcome from None
        finally:
            closing = self._closings.get(under_way.request.run_id)
            if closing is None:
                self._over(under_way, outcome)
            else:
                closing.add_done_callback(lambda _: self._over(under_way, outcome))
        return outcome

    def _over(self, under_way: UnderWay, outcome: RunResult | BaseException) -> None:
        run_id = under_way.request.run_id
        del self._runs[run_id]
        self._closings.pop(run_id, None)
        self._queue.over(under_way.request)
        under_way.ended(outcome)
        if self._tally is not None and under_way.work is not None:
            self._tally.ended(outcome, self._clock.now() - under_way.work.run.started)
        if under_way.work is not None and self._stages.results is not None:
            self._stages.results.ended(under_way.work, outcome)
        if under_way.work is not None and under_way.request.stream:
            self._following.ended(under_way.work, outcome)

    def _told(self, under_way: UnderWay, error: BaseException) -> BaseException:
        """What whoever waits for the run hears of it: also that somebody else stopped it."""
        if isinstance(error, WorkflowError):
            return relayed(error, self._address)
        if isinstance(error, asyncio.CancelledError) and under_way.cut():
            facts = {"partial": under_way.partial} if under_way.partial else {}
            return Cancelled(f"the run was cancelled: {under_way.stopped}", run_id=under_way.request.run_id, **facts)
        return error

    async def _cancel(self, message: CancelRun) -> Ack:
        under_way = self._runs.get(message.run_id)
        if under_way is None or under_way.request.tenant != message.tenant:
            raise NotFound(f"no run {message.run_id} is under way", kind="run", id=message.run_id)
        under_way.stop(message.reason)
        await under_way.gone()
        if not under_way.stopped:
            raise Conflict(f"run {message.run_id} has just ended by itself: its answer is in its session")
        return Ack()

    async def _follow(self, message: FollowRun) -> RunResult:
        return await self._following.follow(message, self._runs.get(message.run_id))

    def _spent(self, message: Spent) -> None:
        self._admission.spent(message)
        if under_way := self._runs.get(message.run_id):
            under_way.spent(message)

    def _shown(self, message: Shown) -> None:
        if under_way := self._runs.get(message.run_id):
            under_way.shown(message)

    def _stats(self, _: GetStats) -> Stats:
        buffered = Sample("rayflow_events_buffered", [], self._outbox.buffered)
        return Stats([*self._figures.samples(), *self._stages.dispatch.samples(), buffered])

    async def _drive(self, under_way: UnderWay) -> RunResult:
        request, ambient, at = under_way.request, ambient_context.get(), self._fabric.directory.entry(self._address)
        trace = ambient.traceparent if ambient is not None else ""
        subject.set(request)
        if self._tracing is not None:
            trace, own = self._tracing.begin(trace, request.run_id, request.attempt)
            ambient_context.set(msgspec.structs.replace(ambient or Context(), traceparent=own))
        run = Run(request, self._workflow, self._address, self._clock.now(), trace, at)
        work = Work(run, under_way.inherited)
        under_way.work = work
        side_calls.under_way.set(work)
        self._stages.begun(work)
        try:
            for stage, spread in self._way:
                step = stage(work)
                if step is not None:
                    begun = self._clock.now()
                    await step
                    spread.observe(self._clock.now() - begun)
                if work.result is not None:
                    break
        except BaseException as error:
            self._admission.ended(work)
            if self._remains.any_of(work, under_way):
                closing = asyncio.get_running_loop().create_task(self._close(work, under_way, error))
                if isinstance(error, asyncio.CancelledError) and not under_way.stopped:
                    self._closings[work.request.run_id] = closing  # nobody waits for it
                else:
                    await _finished(closing)
            else:
                self._end(work, under_way, error)
            raise
        self._admission.ended(work)
        self._turns.release(work)
        assert work.result is not None, "the last stage sets the result"
        return work.result

    async def _close(self, work: Work, under_way: UnderWay, error: BaseException) -> None:
        """End a run that was cut; the next one of its session sees what it leaves."""
        try:
            await self._remains.settle(work, under_way, error)
        finally:
            self._end(work, under_way, error)

    def _end(self, work: Work, under_way: UnderWay, error: BaseException) -> None:
        now, wall_us = self._clock.now(), self._clock.wall_us()
        for part in work.run.unended:
            self._record(work, work.run.part_cut(part, None, now, wall_us))
        if isinstance(error, asyncio.CancelledError):
            reason = under_way.stopped or "the client left"
            self._record(work, work.run.cancelled(reason, now, wall_us, rolled_back=under_way.rollback))
        elif isinstance(error, Exception):
            self._record(work, work.run.failed(error, now, wall_us))
        if work.slot is not None:
            self._turns.release(work)


async def _finished(task: asyncio.Task[None]) -> None:
    """Wait for its end, whatever is cancelled meanwhile."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)


def _heard(task: asyncio.Task[RunResult]) -> None:
    """The error of a run is told to those who wait for it; the loop need not mention it."""
    if not task.cancelled():
        task.exception()
