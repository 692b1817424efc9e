"""The way of a run: `way` is to be read top to bottom.

Each stage takes the `Work` and leaves it further on; to be awaited where it returns an awaitable. What adds to a run
belongs to one of them, behind a check that costs nothing where it is not configured:

- what the models get beside the question: `commit_question`, by way of `Enrichment`, once the question is durable;
- an answer that is known already: `recall`, once the agents are chosen and before they cost anything;
- what is learnt from a turn: the end of `commit_answer`, where the answer is durable and on its way; nothing is waited
  for there, it is begun as a task that whoever learns owns.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from rayflow.actors.admission import Admission
from rayflow.actors.answering import Answering
from rayflow.actors.dispatch import Dispatch
from rayflow.actors.enrichment import ContextMeans, Enrichment
from rayflow.actors.routes import Routes, RoutingMeans
from rayflow.actors.side_calls import SideCalls
from rayflow.actors.transcript import Transcript
from rayflow.actors.turns import Turns
from rayflow.actors.underway import UnderWay
from rayflow.actors.work import Work
from rayflow.chat import Message
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ContentRejected
from rayflow.events import Event
from rayflow.messages import Ack, CacheCounts, Caches, ForgetAnswers, Turn
from rayflow.policies.capture import NOTHING, capture
from rayflow.policies.routing import Decision
from rayflow.runtime.ports import Fabric
from rayflow.runtime.standing import Standing

if TYPE_CHECKING:
    from rayflow.actors.recollection import Recollection
    from rayflow.actors.results import Results

Stage = Callable[[Work], Awaitable[None] | None]


class Stages:
    """`address` is the router's, `record` takes the events of a run, `runs` are those under way by id."""

    def __init__(
        self,
        address: str,
        config: WorkflowConfig,
        fabric: Fabric,
        record: Callable[[Work, Event], None],
        clock: Clock,
        rng: random.Random,
        means: RoutingMeans,
        context: ContextMeans,
        admission: Admission,
        turns: Turns,
        transcript: Transcript,
        runs: Mapping[str, UnderWay],
    ) -> None:
        self._address = address
        self._config = config
        self._record = record
        self._clock = clock
        self._admission = admission
        self._turns = turns
        self._transcript = transcript
        self._runs = runs
        calls = SideCalls(config, record, clock)
        means = replace(means, model=calls.of(means.model, config.routing.model, "routing"))
        context = replace(
            context,
            summariser=calls.of(context.summariser, config.context.summary_model, "summary"),
            extractor=calls.of(context.extractor, config.memory.extraction_model, "extraction"),
        )
        self._standing = Standing(config)
        self._capture = capture(config.monitoring)
        self.dispatch = Dispatch(config, fabric, record, clock, rng, self._capture)
        self.memory: Recollection | None = None
        if config.memory.enabled:
            from rayflow.actors.recollection import Recollection

            self.memory = Recollection(config, fabric, record, clock, context.extractor)
        self.enrichment = Enrichment(config, transcript.ask, record, clock, context, self.memory)
        self._routes = Routes(config, clock, self.dispatch.least_loaded, means)
        self._routed = 0
        self._answering = Answering(config, self.dispatch.ask, record, fabric, clock)
        self.results: Results | None = None
        """Answers that are given again, where that is configured."""
        if config.caches.results.enabled:
            from rayflow.actors.results import Results

            self.results = Results(config, fabric, clock)
        self.way: tuple[Stage, ...] = (
            self.validate,
            admission.admit,
            turns.own_session,
            self.commit_question,
            self.route,
            *((self.recall,) if self.results is not None else ()),
            self.prioritise,
            self.answer,
            self.commit_answer,
        )

    async def start(self) -> None:
        await self._routes.start()
        self.dispatch.watch()

    async def settled(self) -> None:
        """Wait until what was begun behind answers is done."""
        if self.memory is not None:
            await self.memory.drain()

    async def stop(self) -> None:
        await self._routes.stop()
        await self.enrichment.stop()
        if self.memory is not None:
            await self.memory.stop()

    def forget(self, message: ForgetAnswers) -> Ack:
        return self.results.forget(message) if self.results is not None else Ack()

    def caches(self) -> Caches:
        """How the caches of this router fare. Every context that was not in memory is kept."""
        context, table = self.enrichment.counts, self._turns.sessions
        counts = [
            CacheCounts("context", "router", context.hits, context.misses, context.misses, table.evicted, len(table))
        ]
        if self.results is not None:
            counts += self.results.counts()
        if self.enrichment.meanings is not None:
            counts += self.enrichment.meanings.counts()
        return Caches(counts)

    def begun(self, work: Work) -> None:
        """The run was taken in."""
        content, notes = NOTHING if self._capture is None else self._capture.question(work.request.messages)
        self._record(work, work.run.begin(self._clock.wall_us(), content, notes))

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

    async def commit_question(self, work: Work) -> None:
        """Make the user's message durable and collect what the model should see of the past. Where the session has the
        answer to it already, this run is a repetition, and that is its result."""
        slot, request = work.owned, work.request
        if request.stateless:
            work.context = request.messages
            work.run.enriched()
            return
        appended = await self._transcript.question(work)
        if appended.answer is not None:
            self._repeated(work, appended.answer)
            return
        if slot.window is None:
            slot.window = deque((turn.message for turn in appended.window), maxlen=self._transcript.window)
        self._committed(work, request.messages[-1], appended.last_seq)
        building = self.enrichment.build(work, appended)
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

    async def recall(self, work: Work) -> None:
        """Give the answer of an equal question, where there is one: no agent is asked, and no budget used."""
        assert self.results is not None, "else it is no stage"
        answer = await self.results.recall(work)
        if answer is not None:
            work.run.recalled(answer)
            await self.commit_answer(work)

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
            await self.dispatch.ask(work, part)
        run.answered()

    async def commit_answer(self, work: Work) -> None:
        """Make the answer durable; only then is the run complete."""
        self._runs[work.request.run_id].safe = True
        answer = work.run.answer()
        if work.request.stateless:
            self._finished(work, 0)
            return
        agent = work.run.parts[0].agent if len(work.run.parts) == 1 else ""
        appended = await self._transcript.append(work, [answer], agent=agent, usage=work.run.usage)
        if appended.answer is not None and appended.answer.message != answer:
            self._repeated(work, appended.answer)
            return
        work.owned.remember([answer], appended.last_seq)
        self._standing.had_turn(work.key, self._clock.now())
        self._committed(work, answer, appended.last_seq, agent)
        self._finished(work, appended.last_seq)
        if self.memory is not None:
            self.memory.observe(work)

    def _finished(self, work: Work, turn: int) -> None:
        content, notes = NOTHING if self._capture is None else self._capture.text(work.run.answer().text)
        work.result, event = work.run.finished(turn, self._clock.now(), self._clock.wall_us(), content, notes)
        self._record(work, event)

    def _repeated(self, work: Work, stored: Turn) -> None:
        """Another router, or this one for another asker, was faster: the answer in the session is the result."""
        work.result, event = work.run.repeated(stored, self._clock.now(), self._clock.wall_us())
        self._record(work, event)

    def _committed(self, work: Work, message: Message, turn: int, agent: str = "") -> None:
        facts = {"role": message.role, "turn": turn, "chars": len(message.text)}
        self._record(work, work.run.event("turn.committed", self._clock.wall_us(), agent=agent, data=facts))
