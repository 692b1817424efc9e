"""One run as a state machine: what has happened, what the next event's number is, and what the result will be.

The router drives it through the named stages and does the waiting; this object keeps the truth. Every method that ends
a step returns the event to record, so the life of a run and its trail in the log cannot disagree.

    received -> enriched -> routed -> answered -> finished
       \\____________ answered before __________________/
       \\___________\\__________\\__________\\______ failed | cancelled
"""

from __future__ import annotations

from typing import Any, Literal

from rayflow.chat import Message, Usage
from rayflow.errors import WorkflowError, to_info
from rayflow.events import Event
from rayflow.messages import AgentReply, Answer, Joined, RunRequest, RunResult, Turn
from rayflow.messages.runs import PART_ATTEMPTS
from rayflow.policies.routing import Decision
from rayflow.runtime.part import PartState

State = Literal["received", "enriched", "routed", "answered", "finished", "failed", "cancelled"]

UNSEEN_TOKENS = 1 << 20
"""Numbers left free for a streamed part that failed: only its replica knew how many it used."""

ATTEMPT_NUMBERS = 1 << 32
"""Event numbers set aside for each time that the client asks for a run: the router that died took its count along."""

TRANSITIONS: dict[State, frozenset[State]] = {
    "received": frozenset({"enriched", "finished", "failed", "cancelled"}),
    "enriched": frozenset({"routed", "failed", "cancelled"}),
    "routed": frozenset({"answered", "failed", "cancelled"}),
    "answered": frozenset({"finished", "failed", "cancelled"}),
    "finished": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


class Run:
    """`now` is monotonic seconds, `wall_us` microseconds since the epoch; both come from the caller."""

    __slots__ = (
        "_block",
        "_context",
        "_highest",
        "_stride",
        "cache",
        "context_read",
        "decision",
        "joined",
        "lead",
        "parts",
        "request",
        "seq",
        "started",
        "state",
    )

    def __init__(self, request: RunRequest, workflow: str, source: str, now: float) -> None:
        self.request = request
        self.state: State = "received"
        self.started = now
        self.seq = request.attempt * ATTEMPT_NUMBERS
        self._block = 0
        self._stride = 1
        self._highest = 0
        self.decision: Decision | None = None
        self.parts: list[PartState] = []
        self.joined: Joined | None = None
        self.context_read: bool | None = None
        """Whether the store had to be read for the context, beside what the append returns; None where not known."""
        self.cache = ""
        """hit, miss or bypass, where answers are kept."""
        self.lead: PartState | None = None
        """Of several parts, the one whose tokens are the beginning of the answer."""
        self._context: dict[str, Any] = {
            "source": source,
            "run_id": request.run_id,
            "workflow": workflow,
            "tenant": request.tenant,
            "user_id": request.user_id,
            "session_id": request.session_id,
            "channel": request.channel,
            "job_id": request.job_id,
            "item_id": request.item_id,
        }

    def event(self, kind: str, wall_us: int, **fields: Any) -> Event:
        """The next event of this run."""
        self.seq = self.seq + self._stride if self.seq >= self._block else self._block
        return Event(kind=kind, ts_us=wall_us, seq=self.seq, **self._context, **fields)

    def begin(self, wall_us: int) -> Event:
        return self.event("run.started", wall_us, data={"messages": len(self.request.messages)})

    def enriched(self) -> None:
        self._move("enriched")

    def routed(self, decision: Decision, wall_us: int) -> Event:
        self._move("routed")
        self.decision = decision
        self.parts = [PartState(agent) for agent in decision.agents]
        event = self.event(
            "run.routed",
            wall_us,
            strategy=decision.strategy,
            confidence=decision.confidence,
            data={"agents": list(decision.agents), "reason": decision.reason},
        )
        if len(self.parts) > 1:
            self._open_lanes()
        return event

    def _open_lanes(self) -> None:
        """Parts run side by side: each numbers its tokens in a lane of its own, and the last lane is for the router's
        events."""
        self._stride = len(self.parts) + 1
        self._block = self.seq + self._stride

    def _close_lanes(self) -> None:
        self.seq = max(self.seq, self._highest)
        self._stride = 1

    def part_started(self, part: PartState, replica: str, waited_s: float, now: float, wall_us: int) -> Event:
        part.replica, part.started, part.queue_ms = replica, now, waited_s * 1000
        return self.event(
            "agent.started",
            wall_us,
            agent=part.agent,
            replica=replica,
            queue_ms=part.queue_ms,
            data={"attempt": part.attempt},
        )

    def tokens_to(self, part: PartState) -> str:
        """Who gets the tokens of this part as they come; "" where nobody does."""
        request = self.request
        shown = len(self.parts) == 1 or (part is self.lead if self.lead else request.progress)
        return request.client if request.stream and shown else ""

    def attempt_number(self, part: PartState) -> int:
        """Number of the part's attempt among those of all routers that ever worked on this run."""
        return self.request.attempt * PART_ATTEMPTS + part.attempt

    def token_numbers(self, part: PartState) -> tuple[int, int]:
        """First number and step for the tokens of a part."""
        if self._stride == 1:
            return self.seq + 1, 1
        return self._block - len(self.parts) + self.parts.index(part), self._stride

    def part_retried(
        self, part: PartState, error: WorkflowError, delay_s: float, isolated: bool, wall_us: int
    ) -> Event:
        """The part's replica died or its model failed; it is asked again after `delay_s`."""
        part.attempt += 1
        facts = {"attempt": part.attempt, "delay_s": round(delay_s, 3), "isolated": isolated}
        return self.event(
            "agent.retried", wall_us, agent=part.agent, replica=part.replica, error=error.slug, data=facts
        )

    def part_moved(self, part: PartState, agent: str, model: str, error: WorkflowError, wall_us: int) -> Event:
        """What was asked has failed for good; this agent with this model is asked next."""
        part.attempt += 1
        event = self._fell_back(part, error, wall_us, {"attempt": part.attempt, "agent": agent, "model": model})
        part.agent = agent
        return event

    def part_degraded(self, part: PartState, error: WorkflowError, wall_us: int) -> Event:
        """Everything has failed; the configured message is the answer."""
        part.degraded = True
        return self._fell_back(part, error, wall_us, {"attempt": part.attempt, "degraded": True})

    def _fell_back(self, part: PartState, error: WorkflowError, wall_us: int, facts: dict[str, Any]) -> Event:
        return self.event(
            "agent.fallback",
            wall_us,
            agent=part.agent,
            replica=part.replica,
            error=error.slug,
            error_message=error.message,
            data=facts,
        )

    def quarantined(self, part: PartState, error: WorkflowError, wall_us: int) -> Event:
        """The message killed whoever worked on it: the dead letter."""
        return self.event(
            "run.quarantined",
            wall_us,
            agent=part.agent,
            replica=part.replica,
            error=error.slug,
            error_message=error.message,
            data={"replicas": error.details["replicas"], "attempts": part.attempt},
        )

    def part_finished(self, part: PartState, reply: AgentReply, wall_us: int) -> Event:
        part.reply = reply
        self._highest = max(self._highest, reply.last_seq)
        if self._stride == 1:
            self.seq = max(self.seq, reply.last_seq)
        return self.event(
            "agent.finished",
            wall_us,
            agent=part.agent,
            replica=part.replica,
            model=reply.model,
            status="ok",
            queue_ms=part.queue_ms,
            duration_ms=reply.duration_ms,
            ttft_ms=reply.ttft_ms,
            prompt_tokens=reply.usage.prompt_tokens,
            completion_tokens=reply.usage.completion_tokens,
            data={"chunks": reply.chunks, "finish_reason": reply.finish_reason, "attempt": part.attempt},
        )

    def part_failed(self, part: PartState, error: BaseException, now: float, wall_us: int) -> Event:
        part.error = to_info(error)
        if part.replica and self.request.stream:
            self.seq += UNSEEN_TOKENS * self._stride
        return self.event(
            "agent.finished",
            wall_us,
            agent=part.agent,
            replica=part.replica,
            status="error",
            error=part.error.slug,
            error_message=part.error.message,
            queue_ms=part.queue_ms,
            duration_ms=(now - part.started) * 1000 if part.replica else None,
            data={"attempt": part.attempt},
        )

    def part_cut(self, part: PartState, usage: Usage, now: float, wall_us: int) -> Event:
        """The part was cancelled after it had used so much."""
        part.cut = usage
        return self.event(
            "agent.finished",
            wall_us,
            agent=part.agent,
            replica=part.replica,
            status="cancelled",
            error="cancelled",
            queue_ms=part.queue_ms,
            duration_ms=(now - part.started) * 1000,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            data={"attempt": part.attempt},
        )

    def answered(self, joined: Joined | None = None) -> None:
        """All parts are in; `joined` where there were several."""
        self._move("answered")
        self._close_lanes()
        self.joined = joined

    def recalled(self, answer: Answer) -> None:
        """An equal question was answered before: that answer stands, and costs nothing."""
        alone = len(self.parts) == 1
        for part in self.parts:
            part.reply = AgentReply(answer.text if alone else "", "stop", Usage(), answer.model, 0.0)
        joined = None if alone else Joined(answer.text, "", answer.confidence, answer.agents, answer.metadata)
        self.answered(joined)

    def aggregated(self, joined: Joined, took_s: float, wall_us: int) -> Event:
        return self.event(
            "aggregate.finished",
            wall_us,
            strategy=joined.strategy,
            confidence=joined.confidence,
            duration_ms=took_s * 1000,
            data={"agents": joined.agents, **joined.metadata},
        )

    @property
    def declined(self) -> str:
        """The answer to a message that is nobody's; "" where somebody takes it."""
        return self.decision.declined if self.decision else ""

    @property
    def degraded(self) -> bool:
        """Whether the answer is the configured message, because everybody has failed."""
        return any(part.degraded for part in self.parts)

    @property
    def usage(self) -> Usage:
        judged = self.joined.usage if self.joined else Usage()
        answered = sum((part.reply.usage for part in self.parts if part.reply), judged)
        return sum((part.cut for part in self.parts if part.cut), answered)

    @property
    def speaker(self) -> PartState | None:
        """The part whose tokens are the answer, or its beginning."""
        return self.parts[0] if len(self.parts) == 1 else self.lead

    @property
    def ttft_ms(self) -> float | None:
        """Milliseconds from the start of the run to the first token of any part, where an agent streamed."""
        times = [
            (part.started - self.started) * 1000 + part.reply.ttft_ms
            for part in self.parts
            if part.reply and part.reply.ttft_ms is not None
        ]
        return min(times, default=None)

    def answer(self) -> Message:
        """What goes into the session."""
        if self.joined is not None:
            return Message("assistant", self.joined.text)
        if not self.parts:
            return Message("assistant", self.declined)
        reply = self.parts[0].reply
        assert reply is not None, "answered() comes first"
        # Null content is for bare tool calls: endpoints refuse an assistant message that has neither.
        text = None if reply.tool_calls and not reply.text else reply.text
        return Message("assistant", text, tool_calls=reply.tool_calls or None)

    def finished(self, turn: int, now: float, wall_us: int) -> tuple[RunResult, Event]:
        """The answer is durable as `turn`: the run is over."""
        self._move("finished")
        assert self.decision is not None, "routed() comes first"
        event = self._ended("ok", now, wall_us, {"cached": True} if self.cache == "hit" else None)
        single = self.parts[0].reply if len(self.parts) == 1 else None
        result = RunResult(
            run_id=self.request.run_id,
            session_id=self.request.session_id,
            content=single.text if single else self.joined.text if self.joined else self.declined,
            finish_reason=single.finish_reason if single else "stop",
            usage=self.usage,
            model=single.model if single else "",
            agents=self.joined.agents if self.joined else [part.agent for part in self.parts],
            tool_calls=single.tool_calls if single else [],
            streamed=self.parts[0].agent if single else self.joined.lead if self.joined else "",
            strategy=self.decision.strategy,
            confidence=self.decision.confidence,
            turn=turn,
            last_seq=self.seq,
            duration_ms=(now - self.started) * 1000,
            parts=[part.summary() for part in self.parts],
            context_read=self.context_read,
            metadata={
                "routing": self.decision.reason,
                **({"declined": True} if self.declined else {}),
                **({"degraded": True} if self.degraded else {}),
                **({"cache": self.cache} if self.cache else {}),
                **(self.joined.metadata if self.joined else {}),
            },
        )
        return result, event

    def repeated(self, stored: Turn, now: float, wall_us: int) -> tuple[RunResult, Event]:
        """The run was answered earlier, by another router or for another asker: that answer stands."""
        self._move("finished")
        self.seq += 1  # for the text that its client has not got
        event = self._ended("ok", now, wall_us, {"repeated": True})
        message = stored.message
        result = RunResult(
            run_id=self.request.run_id,
            session_id=self.request.session_id,
            content=message.text,
            finish_reason="tool_calls" if message.tool_calls else "stop",
            usage=stored.usage or self.usage,  # of the answer; what this run has used itself, its event says
            model="",
            agents=[stored.agent] if stored.agent else [],
            tool_calls=message.tool_calls or [],
            streamed=stored.agent,
            turn=stored.seq,
            last_seq=self.seq,
            duration_ms=(now - self.started) * 1000,
            parts=[part.summary() for part in self.parts],
            metadata={"repeated": True},
        )
        return result, event

    def failed(self, error: BaseException, now: float, wall_us: int) -> Event:
        self._move("failed")
        info = to_info(error)
        return self._ended("error", now, wall_us, error=info.slug, error_message=info.message)

    def cancelled(self, reason: str, now: float, wall_us: int, *, rolled_back: bool = False) -> Event:
        self._move("cancelled")
        facts = {"rolled_back": True} if rolled_back else {}
        return self._ended("cancelled", now, wall_us, facts, error="cancelled", error_message=reason)

    def _ended(
        self, status: str, now: float, wall_us: int, facts: dict[str, Any] | None = None, **fields: Any
    ) -> Event:
        usage = self.usage
        return self.event(
            "run.finished",
            wall_us,
            status=status,
            duration_ms=(now - self.started) * 1000,
            ttft_ms=self.ttft_ms,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            strategy=self.decision.strategy if self.decision else "",
            confidence=self.decision.confidence if self.decision else None,
            data={"agents": [part.agent for part in self.parts], **(facts or {})},
            **fields,
        )

    def _move(self, to: State) -> None:
        if to not in TRANSITIONS[self.state]:
            raise WorkflowError(f"a run cannot go from {self.state} to {to}", run_id=self.request.run_id)
        self.state = to
