"""The router actor: takes a run in and drives it through its named stages to a durable answer.

`STAGES` is the way of a run, to be read top to bottom. Each stage takes the `Work` and leaves it further on; an
exception ends the run as failed, a cancellation as cancelled, and both leave a trail in the log. The router owns a
session while one of its runs lasts, so turns are never interleaved.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from itertools import dropwhile
from typing import Any

import msgspec

from rayflow.actors.admission import Admission
from rayflow.actors.answering import Answering
from rayflow.actors.dispatch import Dispatch
from rayflow.actors.inflight import InFlight
from rayflow.actors.outbox import Outbox
from rayflow.actors.persistence import persist, relayed
from rayflow.actors.routes import Routes, RoutingMeans
from rayflow.actors.underway import UnderWay
from rayflow.actors.work import Work
from rayflow.chat import Message
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Cancelled, Conflict, ContentRejected, NotFound, Overloaded, WorkflowError
from rayflow.events import Event
from rayflow.messages import (
    Appended,
    AppendTurns,
    CancelRun,
    Demand,
    GetDemand,
    Payload,
    Progress,
    RunRequest,
    RunResult,
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
    """`means`: what its routing strategy needs from outside."""

    def __init__(
        self,
        address: str,
        config: WorkflowConfig,
        fabric: Fabric,
        outbox: Outbox,
        clock: Clock,
        rng: random.Random,
        means: RoutingMeans = NO_MEANS,
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
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._shards = shard_addresses(config.session.shards)
        self._busy = InFlight(address)
        self._runs: dict[str, UnderWay] = {}
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
            GetDemand: lambda _: Demand(self._dispatch.demand()),
            Spent: self._admission.spent,
        }

    async def start(self) -> None:
        await self._routes.start()
        self._dispatch.watch()

    async def drain(self, budget_s: float) -> list[str]:
        left = await self._busy.drain(budget_s)
        await self._admission.settled()
        return left

    async def stop(self) -> None:
        await self._routes.stop()
        self._outbox.close()

    async def _run(self, request: RunRequest) -> RunResult:
        with self._busy.working(request.run_id):
            under_way = self._runs.get(request.run_id)
            if under_way is not None:
                under_way.check_same(request)
                return await under_way.end()
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
            del self._runs[under_way.request.run_id]
            under_way.ended(outcome)
        return outcome

    def _told(self, under_way: UnderWay, error: BaseException) -> BaseException:
        """What whoever waits for the run hears of it: also that somebody else stopped it."""
        if isinstance(error, WorkflowError):
            return relayed(error, self._address)
        if isinstance(error, asyncio.CancelledError) and under_way.cut():
            return Cancelled(f"the run was cancelled: {under_way.stopped}", run_id=under_way.request.run_id)
        return error

    def _cancel(self, message: CancelRun) -> None:
        if under_way := self._runs.get(message.run_id):
            under_way.stop(message.reason)

    async def _drive(self, under_way: UnderWay) -> RunResult:
        work = Work(Run(under_way.request, self._config.name, self._address, self._clock.now()))
        run = work.run
        self._record(work, run.begin(self._clock.wall_us()))
        try:
            for stage in self._stages:
                step = stage(work)
                if step is not None:
                    await step
                if work.result is not None:
                    return work.result
        except asyncio.CancelledError:
            reason = under_way.stopped or "the client left"
            self._record(work, run.cancelled(reason, self._clock.now(), self._clock.wall_us()))
            raise
        except Exception as error:
            self._record(work, run.failed(error, self._clock.now(), self._clock.wall_us()))
            raise
        finally:
            self._admission.ended(work)
            if work.slot is not None:
                self._release_session(work)
        raise AssertionError("the last stage sets the result")

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
        """One writer at a time; later runs of a session wait in order."""
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
        # A tool's result means nothing to a model that does not see the call.
        work.context = [*dropwhile(lambda m: m.role == "tool", slot.window), *request.messages]
        slot.remember(request.messages, appended.last_seq)
        self._committed(work, request.messages[-1], appended.last_seq)
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
        work.account = self._address if self._admission.holds(work.request.run_id) else ""
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
        answer = work.run.answer()
        agent = work.run.parts[0].agent if len(work.run.parts) == 1 else ""
        appended = await self._append(work, [answer], agent=agent)
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

    async def _append(self, work: Work, messages: list[Message], window: int = 0, agent: str = "") -> Appended:
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
        )
        shard = owner(request.session_id, self._shards)
        try:
            appended: Appended = await self._ask_again(shard, append)
        except Conflict:
            slot.forget()
            again = msgspec.structs.replace(append, expected_seq=-1, window=self._window)
            appended = await self._ask_again(shard, again)
        return appended

    async def _ask_again(self, to: str, question: Payload) -> Any:
        """Ask somebody who recognises a repetition (an append of this run)."""
        return await persist(lambda: self._fabric.ask(to, question, self._left()), self._clock, repeatable=True)

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
        if work.request.progress and event.kind in SHOWN:
            self._fabric.tell(work.request.client, Progress(event))


def _heard(task: asyncio.Task[RunResult]) -> None:
    """The error of a run is told to those who wait for it; the loop need not mention it."""
    if not task.cancelled():
        task.exception()
