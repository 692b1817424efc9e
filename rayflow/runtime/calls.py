"""What the log is told of a call of a model, as columns of an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rayflow.chat import ModelReply, Usage
from rayflow.errors import WorkflowError
from rayflow.messages import AgentReply
from rayflow.policies.prices import Entry

if TYPE_CHECKING:
    from rayflow.runtime.part import PartState

Columns = dict[str, Any]


class Call(NamedTuple):
    """One call of a model. `begun`: when it was sent to the replica, in monotonic seconds; `attempt`: the part's."""

    entry: Entry
    replica: str
    attempt: int
    waited_s: float
    begun: float


def failed(call: Call, error: WorkflowError | None, usage: Usage | None, now: float) -> Columns:
    """Of a call that gave no answer; it was cut where there is no `error`. `usage`: what it had used, where somebody
    knows."""
    return {
        "replica": call.replica,
        "provider": call.entry.provider,
        "model": call.entry.name,
        "attempt": call.attempt,
        "queue_ms": call.waited_s * 1000,
        "duration_ms": (now - call.begun) * 1000,
        **_fault(error),
        **spent(call.entry, usage),
    }


def answered(called: Entry | None, reply: AgentReply, notes: Mapping[str, Any] | None) -> Columns:
    """Of a call that was answered. `called` is None where no model was. `notes`: further facts."""
    facts: dict[str, Any] = {**notes} if notes else {}
    if reply.chunks:
        facts["chunks"] = reply.chunks
    if reply.response_id:
        facts["response_id"] = reply.response_id
    if called is not None and called.name != reply.model:
        facts["entry"] = called.name
    if reply.usage.estimated:
        facts["estimated"] = True
    return {
        "provider": called.provider if called is not None else "",
        "model": reply.model,
        "status": "ok",
        "finish_reason": reply.finish_reason,
        "duration_ms": reply.duration_ms,
        "ttft_ms": reply.ttft_ms,
        "tokens_per_s": _speed(reply),
        "data": facts,
        **spent(called, reply.usage),
    }


def beside(called: Entry, purpose: str, outcome: ModelReply | Usage | WorkflowError | None) -> Columns:
    """Of a call for no part of a run. `outcome`: its answer, or what it has used where no more is known; its error, or
    None where it was cut."""
    columns: Columns = {"provider": called.provider, "model": called.name, "status": "ok", "data": {"purpose": purpose}}
    match outcome:
        case ModelReply():
            told = {"model": outcome.model, "finish_reason": outcome.finish_reason}
            if outcome.model != called.name:
                columns["data"]["entry"] = called.name
            return columns | told | spent(called, outcome.usage)
        case Usage():
            return columns | spent(called, outcome)
        case _:
            return columns | _fault(outcome)


def still_out(part: PartState) -> Columns:
    """Of the call that ended because its part did."""
    return {"provider": part.called.provider, "model": part.called.name} if part.called else {}


def spent(called: Entry | None, usage: Usage | None) -> Columns:
    """What a call has used, and what that costs."""
    if usage is None:
        return {}
    columns: Columns = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    if usage.cached_tokens:
        columns["cached_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        columns["reasoning_tokens"] = usage.reasoning_tokens
    if called is not None and called.priced:
        columns["cost_usd"] = called.cost(usage)
    return columns


def _fault(error: WorkflowError | None) -> Columns:
    if error is None:
        return {"status": "cancelled", "error": "cancelled"}
    return {"status": "error", "error": error.slug, "error_message": error.message}


def _speed(reply: AgentReply) -> float | None:
    """Tokens in each second that the model wrote: from the first one on, where it is known when that came."""
    tokens, took_ms = reply.usage.completion_tokens, reply.duration_ms
    if reply.ttft_ms is not None:
        tokens, took_ms = tokens - 1, took_ms - reply.ttft_ms
    return tokens / took_ms * 1000 if tokens > 0 and took_ms > 0 else None
