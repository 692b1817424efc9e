"""Answers of POST /chat: the JSON object and the event stream."""

from __future__ import annotations

from typing import Any

import msgspec

from rayflow.api import sse
from rayflow.api.problems import problem
from rayflow.api.said import Said
from rayflow.errors import WorkflowError
from rayflow.events import Event
from rayflow.messages import PartSummary, RunResult, Token


class ChatUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool


class ChatPart(msgspec.Struct, frozen=True):
    """How one agent's part went. Times are milliseconds; `error` is the slug of what went wrong, or ""."""

    agent: str
    status: str
    duration_ms: float
    ttft_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    error: str


class ChatMetrics(msgspec.Struct, frozen=True):
    duration_ms: float
    parts: list[ChatPart]


class ChatMetadata(msgspec.Struct, frozen=True):
    """`turn`: number of the answer in its conversation. `data`: what the strategy that joined several answers adds."""

    workflow: str
    model: str
    finish_reason: str
    strategy: str
    confidence: float
    turn: int
    data: dict[str, Any]


class ChatAnswer(msgspec.Struct, frozen=True):
    """The answer of the workflow to one message."""

    content: str
    conversation_id: str
    run_id: str
    agents: list[str]
    usage: ChatUsage
    metrics: ChatMetrics
    metadata: ChatMetadata


def chat_answer(result: RunResult, workflow: str) -> ChatAnswer:
    return ChatAnswer(
        content=result.content,
        conversation_id=result.session_id,
        run_id=result.run_id,
        agents=result.agents,
        usage=usage_of(result),
        metrics=ChatMetrics(result.duration_ms, [_part(part) for part in result.parts]),
        metadata=metadata_of(result, workflow),
    )


def metadata_of(result: RunResult, workflow: str) -> ChatMetadata:
    return ChatMetadata(
        workflow=workflow,
        model=result.model,
        finish_reason=result.finish_reason,
        strategy=result.strategy,
        confidence=result.confidence,
        turn=result.turn,
        data=result.metadata,
    )


class ChatEncoder:
    """One run as native events (an `Encoder`); the SSE id is the number of the event in its run."""

    def __init__(self, workflow: str, request_id: str) -> None:
        self._workflow = workflow
        self._request_id = request_id
        self._sent = Said()

    def token(self, token: Token) -> bytes:
        self._sent[token.agent].append(token.text)
        return sse.event({"type": "token", "content": token.text, "node": token.agent}, token.seq)

    def progress(self, event: Event) -> bytes:
        return sse.event({"type": "event", "event": event.kind, **told(event)}, event.seq)

    def result(self, result: RunResult) -> bytes:
        node, left = self._sent.due(result)
        usage = {
            "workflow_type": self._workflow,
            "full_content": result.content,
            "conversation_id": result.session_id,
            "run_id": result.run_id,
            "agents": result.agents,
            "finish_reason": result.finish_reason,
            **msgspec.structs.asdict(usage_of(result)),
            **({"cache": result.metadata["cache"]} if "cache" in result.metadata else {}),
        }
        return b"".join(
            (
                # The run's last event but one says that the answer is durable; the rest of it takes that number.
                sse.event({"type": "token", "content": left, "node": node}, result.last_seq - 1) if left else b"",
                sse.event({"type": "usage", "usage": usage}, result.last_seq),
                sse.event({"type": "end"}),
                sse.DONE,
            )
        )

    def error(self, error: WorkflowError) -> bytes:
        agent, left = self._sent.due_after(error)
        due = sse.event({"type": "token", "content": left, "node": agent}) if left else b""
        return due + sse.event({"type": "error", "error": problem(error, self._request_id)})


_TOLD = ("agent", "status", "strategy", "confidence", "model", "finish_reason", "attempt", "duration_ms", "queue_ms",
         "ttft_ms", "prompt_tokens", "completion_tokens", "error", "error_message", "data")  # fmt: skip


def told(event: Event) -> dict[str, Any]:
    """What a client is told of an event of its run."""
    return {name: value for name in _TOLD if (value := getattr(event, name))}


def usage_of(result: RunResult) -> ChatUsage:
    usage = result.usage
    return ChatUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.estimated)


def _part(part: PartSummary) -> ChatPart:
    return ChatPart(
        agent=part.agent,
        status=part.status,
        duration_ms=part.duration_ms,
        ttft_ms=part.ttft_ms,
        prompt_tokens=part.usage.prompt_tokens,
        completion_tokens=part.usage.completion_tokens,
        error=part.error,
    )
