"""One run as a state machine: what has happened, what the next event's number is, and what the result will be.

The router drives it through the named stages and does the waiting; this object keeps the truth. Every method that ends
a step returns the event to record, so the life of a run and its trail in the log cannot disagree.

    received -> enriched -> routed -> answered -> finished
       \\____________ answered before __________________/
       \\___________\\__________\\__________\\______ failed | cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from rayflow.chat import Message, Usage
from rayflow.errors import WorkflowError, to_info
from rayflow.events import Event
from rayflow.messages import AgentReply, Answer, Endpoint, Joined, RunRequest, RunResult, Turn
from rayflow.policies.routing import Decision
from rayflow.runtime.part import PartState
from rayflow.runtime.run_events import RunEvents

State = Literal["received", "enriched", "routed", "answered", "finished", "failed", "cancelled"]

MOST_SCORES = 16
"""How many agents' scores the log gets of a decision."""

TRANSITIONS: dict[State, frozenset[State]] = {
    "received": frozenset({"enriched", "finished", "failed", "cancelled"}),
    "enriched": frozenset({"routed", "failed", "cancelled"}),
    "routed": frozenset({"answered", "failed", "cancelled"}),
    "answered": frozenset({"finished", "failed", "cancelled"}),
    "finished": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


class Run(RunEvents):
    """`now` is monotonic seconds, `wall_us` microseconds since the epoch; both come from the caller."""

    __slots__ = ("cache", "context_read", "decision", "joined", "started", "state")

    def __init__(
        self, request: RunRequest, workflow: str, source: str, now: float, trace: str = "", at: Endpoint | None = None
    ) -> None:
        super().__init__(request, workflow, source, trace, at)
        self.state: State = "received"
        self.started = now
        self.decision: Decision | None = None
        self.joined: Joined | None = None
        self.context_read: bool | None = None
        """Whether the store had to be read for the context, beside what the append returns; None where not known."""
        self.cache = ""
        """hit, miss or bypass, where answers are kept."""

    def begin(self, wall_us: int, content: str = "", notes: Mapping[str, Any] | None = None) -> Event:
        """`content`: what of the question may be recorded, with `notes` on that."""
        facts = {"messages": len(self.request.messages), **(notes or {})}
        if not self.sampled:
            facts["sampled"] = False
        return self.event("run.started", wall_us, content=content, data=facts)

    def enriched(self) -> None:
        self._move("enriched")

    def routed(self, decision: Decision, wall_us: int) -> Event:
        self._move("routed")
        self.decision = decision
        self.parts = [PartState(agent) for agent in decision.agents]
        facts: dict[str, Any] = {"agents": list(decision.agents), "reason": decision.reason}
        if decision.scores:
            facts["scores"] = {agent: round(score, 4) for agent, score in decision.scores[:MOST_SCORES]}
        event = self.event(
            "run.routed",
            wall_us,
            strategy=decision.strategy,
            confidence=decision.confidence,
            data=facts,
        )
        if len(self.parts) > 1:
            self.open_lanes()
        return event

    def answered(self, joined: Joined | None = None) -> None:
        """All parts are in; `joined` where there were several."""
        self._move("answered")
        self.close_lanes()
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
    def unended(self) -> list[PartState]:
        """Parts that were begun, and of which no event says what became of them."""
        return [part for part in self.parts if part.replica and not (part.reply or part.error or part.cut)]

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

    def finished(
        self, turn: int, now: float, wall_us: int, content: str = "", notes: Mapping[str, Any] | None = None
    ) -> tuple[RunResult, Event]:
        """The answer is durable as `turn`: the run is over. `content`: what of it may be recorded, with `notes`."""
        self._move("finished")
        assert self.decision is not None, "routed() comes first"
        facts = {**(notes or {}), **({"cached": True} if self.cache == "hit" else {})}
        event = self._ended("ok", now, wall_us, facts, content=content)
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
            cost_usd=self.cost_usd,
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
        # What a router that died had to say of the end of this run is lost with it.
        event = self._ended("ok", now, wall_us, kind="run.finished" if self.request.attempt else "run.repeated")
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
        self,
        status: str,
        now: float,
        wall_us: int,
        facts: dict[str, Any] | None = None,
        kind: str = "run.finished",
        **fields: Any,
    ) -> Event:
        usage = self.usage
        return self.event(
            kind,
            wall_us,
            status=status,
            duration_ms=(now - self.started) * 1000,
            ttft_ms=self.ttft_ms,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens or None,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens or None,
            cost_usd=self.cost_usd,
            strategy=self.decision.strategy if self.decision else "",
            confidence=self.decision.confidence if self.decision else None,
            data={"agents": [part.agent for part in self.parts], **(facts or {})},
            **fields,
        )

    def _move(self, to: State) -> None:
        if to not in TRANSITIONS[self.state]:
            raise WorkflowError(f"a run cannot go from {self.state} to {to}", run_id=self.request.run_id)
        self.state = to
