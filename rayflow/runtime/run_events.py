"""What the log is told of a run and of its parts: events with the columns that all of them share, numbered by `seq`.

Where parts run side by side, each numbers its tokens in a lane of its own, so that nobody has to be asked for a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayflow.chat import ModelReply, ToolCall, Usage
from rayflow.errors import WorkflowError, to_info
from rayflow.events import Event
from rayflow.messages import AgentReply, Endpoint, RunRequest
from rayflow.messages.runs import ATTEMPT_NUMBERS, PART_ATTEMPTS
from rayflow.policies.ejection import Ejection
from rayflow.policies.prices import Entry
from rayflow.runtime import calls
from rayflow.runtime.calls import Call
from rayflow.runtime.part import PartState
from rayflow.runtime.pool import NO_CHOICE, Choice
from rayflow.tracing import is_sampled

UNSEEN_TOKENS = 1 << 20
"""Numbers left free for a streamed part that failed: only its replica knew how many it used."""


class RunEvents:
    """`source` is the router, `at` where that listens, `trace` the `traceparent` of the request."""

    __slots__ = ("_block", "_context", "_highest", "_stride", "cost_usd", "lead", "parts", "request", "sampled", "seq")

    def __init__(self, request: RunRequest, workflow: str, source: str, trace: str, at: Endpoint | None) -> None:
        self.request = request
        self.seq = request.attempt * ATTEMPT_NUMBERS
        self._block = 0
        self._stride = 1
        self._highest = 0
        self.parts: list[PartState] = []
        self.lead: PartState | None = None
        """Of several parts, the one whose tokens are the beginning of the answer."""
        self.cost_usd: float | None = None
        """Of all calls so far that have a price and said what they used."""
        self._context: dict[str, Any] = {
            "source": source,
            "run_id": request.run_id,
            "workflow": workflow,
            "tenant": request.tenant,
            "user_id": request.user_id,
            "session_id": request.session_id,
            "channel": request.channel,
            "priority": request.service_class,
        }
        if request.job_id:
            self._context |= {"job_id": request.job_id, "item_id": request.item_id}
        self.sampled = True
        """Whether the trace that it belongs to wants to hear of it."""
        if trace:
            _, self._context["trace_id"], self._context["span_id"], *_ = trace.split("-")
            self.sampled = is_sampled(trace)
        if at is not None:
            self._context["epoch"] = at.epoch
            if at.tcp:
                self._context["node"] = at.host

    def event(self, kind: str, wall_us: int, **fields: Any) -> Event:
        """The next event of this run."""
        self.seq = self.seq + self._stride if self.seq >= self._block else self._block
        return Event(kind=kind, ts_us=wall_us, seq=self.seq, **self._context, **fields)

    def open_lanes(self) -> None:
        """Parts run side by side: each numbers its tokens in a lane of its own, and the last lane is for the router's
        events."""
        self._stride = len(self.parts) + 1
        self._block = self.seq + self._stride

    def close_lanes(self) -> None:
        self.seq = max(self.seq, self._highest)
        self._stride = 1

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

    def part_started(
        self, part: PartState, replica: str, waited_s: float, now: float, wall_us: int, choice: Choice = NO_CHOICE
    ) -> Event:
        """`choice`: how the replica was chosen."""
        part.replica, part.started, part.queue_ms = replica, now, waited_s * 1000
        return self.event(
            "agent.started",
            wall_us,
            agent=part.agent,
            replica=replica,
            queue_ms=part.queue_ms,
            attempt=part.attempt,
            strategy=choice.strategy,
            data={"loads": choice.loads} if choice.loads else {},
        )

    def part_retried(
        self, part: PartState, error: WorkflowError, delay_s: float, isolated: bool, wall_us: int
    ) -> Event:
        """The part's replica died or its model failed; it is asked again after `delay_s`."""
        part.attempt += 1
        return self.event(
            "agent.retried",
            wall_us,
            agent=part.agent,
            replica=part.replica,
            error=error.slug,
            attempt=part.attempt,
            data={"delay_s": round(delay_s, 3), "isolated": isolated},
        )

    def part_moved(self, part: PartState, agent: str, model: str, error: WorkflowError, wall_us: int) -> Event:
        """What was asked has failed for good; this agent with this model is asked next."""
        part.attempt += 1
        event = self._gave_up("agent.fallback", part, error, wall_us, {"agent": agent, "model": model})
        part.agent = agent
        return event

    def part_degraded(self, part: PartState, error: WorkflowError, wall_us: int) -> Event:
        """Everything has failed; the configured message is the answer."""
        part.degraded = True
        return self._gave_up("agent.fallback", part, error, wall_us, {"degraded": True})

    def _gave_up(self, kind: str, part: PartState, error: WorkflowError, wall_us: int, facts: dict[str, Any]) -> Event:
        return self.event(
            kind,
            wall_us,
            agent=part.agent,
            replica=part.replica,
            error=error.slug,
            error_message=error.message,
            attempt=part.attempt,
            data=facts,
        )

    def quarantined(self, part: PartState, error: WorkflowError, wall_us: int) -> Event:
        """The message killed whoever worked on it: the dead letter."""
        return self._gave_up("run.quarantined", part, error, wall_us, {"replicas": error.details["replicas"]})

    def call_ended(
        self, part: PartState, call: Call, error: WorkflowError | None, usage: Usage | None, now: float, wall_us: int
    ) -> Event:
        """A call of a model ended that the end of its part will say nothing of: it failed, or was one too many (None).
        `usage`: what it had used, where somebody knows."""
        part.called = None
        return self._paid("model.finished", wall_us, agent=part.agent, **calls.failed(call, error, usage, now))

    def ejected(self, part: PartState, ejection: Ejection, wall_us: int) -> Event:
        """A call of this run was the last straw."""
        facts = {"reason": ejection.reason, "out_s": round(ejection.out_s, 3), "times": ejection.times}
        return self.event("replica.ejected", wall_us, agent=part.agent, replica=ejection.replica, data=facts)

    def side_call(
        self,
        called: Entry,
        purpose: str,
        outcome: ModelReply | Usage | WorkflowError | None,
        took_s: float,
        wall_us: int,
    ) -> Event:
        """A call of a model ended that was made for this run, and for none of its parts. `outcome`: as `calls.beside`
        takes it."""
        told = calls.beside(called, purpose, outcome)
        return self._paid("model.finished", wall_us, duration_ms=took_s * 1000, **told)

    def tool_called(
        self,
        part: PartState,
        call: ToolCall,
        model: str,
        wall_us: int,
        content: str = "",
        notes: Mapping[str, Any] | None = None,
    ) -> Event:
        """A model asks for a tool. `content`: what of the arguments may be recorded, with `notes` on that."""
        facts = {"tool": call.function.name, "call_id": call.id, **(notes or {})}
        return self.event("tool.called", wall_us, agent=part.agent, model=model, content=content, data=facts)

    def _paid(self, kind: str, wall_us: int, **columns: Any) -> Event:
        """An event that tells of a call of a model, which adds to the cost of the run."""
        cost = columns.get("cost_usd")
        if cost is not None:
            self.cost_usd = cost + (self.cost_usd or 0.0)
        return self.event(kind, wall_us, **columns)

    def part_finished(
        self,
        part: PartState,
        reply: AgentReply,
        wall_us: int,
        content: str = "",
        notes: Mapping[str, Any] | None = None,
    ) -> Event:
        """`content`: what of its text may be recorded, with `notes` on that."""
        part.reply = reply
        self._highest = max(self._highest, reply.last_seq)
        if self._stride == 1:
            self.seq = max(self.seq, reply.last_seq)
        return self._paid(
            "agent.finished",
            wall_us,
            agent=part.agent,
            replica=part.replica,
            attempt=part.attempt,
            queue_ms=part.queue_ms,
            content=content,
            **calls.answered(part.called, reply, notes),
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
            attempt=part.attempt,
            queue_ms=part.queue_ms,
            duration_ms=(now - part.started) * 1000 if part.replica else None,
            **calls.still_out(part),
        )

    def part_cut(self, part: PartState, usage: Usage | None, now: float, wall_us: int) -> Event:
        """The part was cancelled after it had used so much; None where nobody knows."""
        part.cut = usage
        return self._paid(
            "agent.finished",
            wall_us,
            agent=part.agent,
            replica=part.replica,
            status="cancelled",
            error="cancelled",
            attempt=part.attempt,
            queue_ms=part.queue_ms,
            duration_ms=(now - part.started) * 1000,
            **calls.still_out(part),
            **calls.spent(part.called, usage),
        )
