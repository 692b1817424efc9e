"""The router actor: takes a run in and drives it through its named stages to a durable answer.

`STAGES` is the way of a run, to be read top to bottom. Each stage takes the `Work` and leaves it further on; an
exception ends the run as failed, a cancellation as cancelled, and both leave a trail in the log, and in the session
what its client was given of the answer (`remains`). The router owns a session while one of its runs lasts, so turns are
never interleaved.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from rayflow.actors.admission import Admission
from rayflow.actors.answering import Answering
from rayflow.actors.dispatch import Dispatch
from rayflow.actors.enrichment import NO_CONTEXT_MEANS, ContextMeans, Enrichment
from rayflow.actors.following import Following
from rayflow.actors.inflight import InFlight
from rayflow.actors.outbox import Outbox
from rayflow.actors.persistence import persist, relayed
from rayflow.actors.remains import Remains
from rayflow.actors.routes import Routes, RoutingMeans
from rayflow.actors.underway import UnderWay, digest
from rayflow.actors.work import Work
from rayflow.chat import Message, Usage
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Cancelled, Conflict, ContentRejected, NotFound, Overloaded, WorkflowError
from rayflow.events import Event
from rayflow.messages import (
    Ack,
    Appended,
    AppendTurns,
    CancelRun,
    Demand,
    FollowRun,
    GetDemand,
    Payload,
    Progress,
    RunRequest,
    RunResult,
    Shown,
    Spent,
    Turn,
)
from rayflow.policies.placement import owner, shard_addresses
from rayflow.policies.routing import Decision
from rayflow.runtime.ports import Fabric, Handler
from rayflow.runtime.run import Run
from rayflow.runtime.session import SessionSlot, SessionTable
from rayflow.runtime.standing import Standing

SHOWN = frozenset(
    {"run.routed", "agent.started", "agent.retried", "agent.fallback", "agent.finished", "aggregate.finished"}
)
"""Coarse events that clients see when they ask for progress."""

NO_MEANS = RoutingMeans()


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
        self._config = config
        self._fabric = fabric
        self._outbox = outbox
        self._clock = clock
        self._admission = Admission(config, fabric, clock)
        self._standing = Standing(config)
        self._dispatch = Dispatch(config, fabric, self._record, clock, rng)
        self._routes = Routes(config, clock, self._dispatch.least_loaded, means)
        self._routed = 0
        self._answering = Answering(config, self._dispatch.ask, self._record, fabric, clock)
        self._sessions = SessionTable(config.context.cached_sessions)
        self._window = config.context.window if config.context.enrichment else 0
        self._enrichment = Enrichment(config, self._ask_store, self._record, clock, context)
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._shards = shard_addresses(config.session.shards)
        self._busy = InFlight(address)
        self._runs: dict[str, UnderWay] = {}
        self._closings: dict[str, asyncio.Task[None]] = {}
        """Of runs that nobody waits for any more: what is left of them is being stored."""
        self._following = Following(fabric, clock)
        self._remains = Remains(self._append, self._ask_store, self._record, fabric, clock)
        self._stages: tuple[Callable[[Work], Awaitable[None] | None], ...] = (
            self.validate,
            self.admit,
            self.own_session,
            self.commit_question,
            self.route,
            self.prioritise,
            self.answer,
            self.commit_answer,
        )

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {
            RunRequest: self._run,
            CancelRun: self._cancel,
            FollowRun: self._follow,
            GetDemand: lambda _: Demand(self._dispatch.demand()),
            Spent: self._spent,
            Shown: self._shown,
        }

    async def start(self) -> None:
        await self._routes.start()
        self._dispatch.watch()

    async def drain(self, budget_s: float) -> list[str]:
        left = await self._busy.drain(budget_s)
        if self._closings:
            await asyncio.wait(self._closings.values())
        await self._admission.settled()
        return left

    async def stop(self) -> None:
        await self._routes.stop()
        await self._enrichment.stop()
        self._outbox.close()

    async def _run(self, request: RunRequest) -> RunResult:
        with self._busy.working(request.run_id):
            while (under_way := self._runs.get(request.run_id)) is not None:
                under_way.check_same(request)
                if not under_way.deserted:
                    return await under_way.end()
                await under_way.gone()
            self._dispatch.admit(request.run_id)
            under_way = self._runs[request.run_id] = UnderWay(request)
            if not request.repeatable:
                return await self._work(under_way)
            # Others may come to wait for it, so it must not end with who came first.
            working = asyncio.get_running_loop().create_task(self._work(under_way))
            working.add_done_callback(_heard)
            return await under_way.end()

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
        under_way.ended(outcome)
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

    async def _drive(self, under_way: UnderWay) -> RunResult:
        work = Work(Run(under_way.request, self._config.name, self._address, self._clock.now()))
        under_way.work = work
        self._record(work, work.run.begin(self._clock.wall_us()))
        try:
            for stage in self._stages:
                step = stage(work)
                if step is not None:
                    await step
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
        self._release_session(work)
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
        if isinstance(error, asyncio.CancelledError):
            reason = under_way.stopped or "the client left"
            self._record(work, work.run.cancelled(reason, now, wall_us, rolled_back=under_way.rollback))
        elif isinstance(error, Exception):
            self._record(work, work.run.failed(error, now, wall_us))
        if work.slot is not None:
            self._release_session(work)

    # --- the stages of a run, in order ---

    def validate(self, work: Work) -> None:
        """Refuse what no agent should see."""
        processing = self._config.processing
        if not work.request.messages:
            raise ContentRejected("a run needs at least one message", param="messages")
        if not processing.input_validation:
            return
        text = work.request.messages[-1].text
        if work.request.messages[-1].role == "user" and not processing.min_length <= len(text) <= processing.max_length:
            raise ContentRejected(
                f"the message has {len(text)} characters;"
                f" allowed are {processing.min_length} to {processing.max_length}",
                param="messages",
                length=len(text),
                max_length=processing.max_length,
            )

    def admit(self, work: Work) -> Awaitable[None] | None:
        """Refuse what is beyond a limit or a budget."""
        return self._admission.admit(work)

    async def own_session(self, work: Work) -> None:
        """One writer at a time; later runs of a session wait in order, or do what else they want to with those before
        them."""
        strategy = work.request.multitask or self._config.processing.multitask_strategy
        if strategy != "enqueue":
            self._clash(work, strategy)
        try:
            work.slot = self._sessions.enter(work.key, work.request.run_id)
        except OverflowError as full:
            raise Overloaded(f"session {work.request.session_id}: {full}; try again later", retry_after_s=1) from None
        if work.slot is not None:
            return
        turn = self._turns[work.request.run_id] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                work.slot = self._sessions.slot(work.key)
            else:
                self._sessions.abandon(work.key, work.request.run_id)
            raise
        finally:
            del self._turns[work.request.run_id]
        work.slot = self._sessions.slot(work.key)

    def _clash(self, work: Work, strategy: str) -> None:
        """Refuse the run, or stop all before it, where there are any."""
        earlier = self._sessions.line(work.key)
        if earlier and strategy == "reject":
            raise Conflict(
                f"session {work.request.session_id} is busy with another run: send this when that is done, or ask for"
                " another multitask_strategy",
                session_id=work.request.session_id,
                run_id=earlier[0],
            )
        for run_id in earlier:
            self._runs[run_id].stop(f"superseded by run {work.request.run_id}", rollback=strategy == "rollback")

    async def commit_question(self, work: Work) -> None:
        """Make the user's message durable and collect what the model should see of the past. Where the session has the
        answer to it already, this run is a repetition, and that is its result."""
        slot, request = self._slot(work), work.request
        try:
            appended = await self._append(work, request.messages, window=0 if slot.window is not None else self._window)
        except NotFound:
            # Deleted since the last turn: this message begins a new conversation under the old id.
            slot.forget()
            appended = await self._append(work, request.messages, window=self._window)
        if appended.answer is not None:
            self._repeated(work, appended.answer)
            return
        if slot.window is None:
            slot.window = deque((turn.message for turn in appended.window), maxlen=self._window)
        self._committed(work, request.messages[-1], appended.last_seq)
        building = self._enrichment.build(work, appended)
        if building is not None:
            await building
        slot.remember(request.messages, appended.last_seq)
        work.run.enriched()

    def route(self, work: Work) -> Awaitable[None] | None:
        """Choose the agents."""
        if work.request.agent:
            self._chose(work, Decision((work.request.agent,), 1.0, "named", "the client named the agent"))
            return None
        decision = self._routes.decide_now(work.request.messages[-1].text, self._routed)
        if decision is None:
            return self._route_later(work)
        self._chose(work, decision)
        return None

    async def _route_later(self, work: Work) -> None:
        *history, question = work.context
        self._chose(work, await self._routes.decide(question.text, self._routed, history))

    def _chose(self, work: Work, decision: Decision) -> None:
        self._routed += 1
        self._record(work, work.run.routed(decision, self._clock.wall_us()))

    def prioritise(self, work: Work) -> Awaitable[None] | None:
        """Say how urgent the run is and what it may cost; refuse it where the agents chosen are beyond a budget."""
        work.level = self._standing.level(work.request, self._clock.now())
        work.tokens = self._admission.tokens(work.request)
        tells = work.request.stream or self._admission.holds(work.request.run_id)
        work.account = self._address if tells else ""
        return self._admission.routed(work)

    async def answer(self, work: Work) -> None:
        """Ask the agents, and join their parts where there are several. A declined message is nobody's."""
        run = work.run
        if len(run.parts) > 1:
            await self._answering.answer(work)
            return
        for part in run.parts:
            await self._dispatch.ask(work, part)
        run.answered()

    async def commit_answer(self, work: Work) -> None:
        """Make the answer durable; only then is the run complete."""
        self._runs[work.request.run_id].safe = True
        answer = work.run.answer()
        agent = work.run.parts[0].agent if len(work.run.parts) == 1 else ""
        appended = await self._append(work, [answer], agent=agent, usage=work.run.usage)
        if appended.answer is not None and appended.answer.message != answer:
            self._repeated(work, appended.answer)
            return
        self._slot(work).remember([answer], appended.last_seq)
        self._standing.had_turn(work.key, self._clock.now())
        self._committed(work, answer, appended.last_seq, agent)
        work.result, event = work.run.finished(appended.last_seq, self._clock.now(), self._clock.wall_us())
        self._record(work, event)

    # --- what the stages use ---

    def _repeated(self, work: Work, stored: Turn) -> None:
        """Another router, or this one for another asker, was faster: the answer in the session is the result."""
        work.result, event = work.run.repeated(stored, self._clock.now(), self._clock.wall_us())
        self._record(work, event)

    async def _append(
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
        slot, request = self._slot(work), work.request
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
        )
        try:
            appended: Appended = await self._ask_store(work, append)
        except Conflict:
            slot.forget()
            appended = await self._ask_store(
                work, msgspec.structs.replace(append, expected_seq=-1, window=self._window)
            )
        return appended

    async def _ask_store(self, work: Work, question: Payload) -> Any:
        """Ask the store of the session, which recognises a repetition (of what this run does to it)."""
        shard = owner(work.request.session_id, self._shards)
        return await persist(lambda: self._fabric.ask(shard, question, self._left()), self._clock, repeatable=True)

    def _release_session(self, work: Work) -> None:
        if work.run.state != "finished":
            self._slot(work).forget()
        following = self._sessions.leave(work.key)
        while following is not None and self._turns[following].done():
            # It was cancelled in this very moment: the next one, then.
            following = self._sessions.leave(work.key)
        if following is not None:
            self._turns[following].set_result(None)

    def _slot(self, work: Work) -> SessionSlot:
        assert work.slot is not None, "own_session comes first"
        return work.slot

    def _left(self) -> float:
        return remaining_s(self._clock.now(), self._config.processing.request_timeout_s)

    def _committed(self, work: Work, message: Message, turn: int, agent: str = "") -> None:
        facts = {"role": message.role, "turn": turn, "chars": len(message.text)}
        self._record(work, work.run.event("turn.committed", self._clock.wall_us(), agent=agent, data=facts))

    def _record(self, work: Work, event: Event) -> None:
        self._outbox.emit(event)
        if work.request.stream and event.kind in SHOWN:
            work.shown.append(event)
            if work.request.progress:
                self._fabric.tell(work.request.client, Progress(event))
            if work.followers:
                self._following.happened(work, event)


async def _finished(task: asyncio.Task[None]) -> None:
    """Wait for its end, whatever is cancelled meanwhile."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)


def _heard(task: asyncio.Task[RunResult]) -> None:
    """The error of a run is told to those who wait for it; the loop need not mention it."""
    if not task.cancelled():
        task.exception()
