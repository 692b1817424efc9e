"""What happened, as typed rows.

Every actor hands `Event`s to the event log; a row of the log is one `Event`. Events of a run are numbered by `seq`
from 1; `(run_id, seq)` names a row of a run, is the SSE id of a native stream and the order in the log. Tokens are
events of the stream (they take numbers) but are not logged one by one: the finish of an agent's part tells how many
there were.

`EVENTS` is the list of all kinds and `COLUMNS` that of all columns; `docs/events.md` shows both as tables, and a test
compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One row of the log. Empty strings and Nones mean "does not apply". What each field says, `COLUMNS` tells.

    `event_id` is nobody's to set: whoever brings the events to the log numbers them.
    """

    kind: str
    ts_us: int
    source: str = ""
    node: str = ""
    run_id: str = ""
    seq: int = 0
    trace_id: str = ""
    span_id: str = ""
    workflow: str = ""
    agent: str = ""
    replica: str = ""
    provider: str = ""
    model: str = ""
    tenant: str = ""
    user_id: str = ""
    session_id: str = ""
    channel: str = ""
    priority: str = ""
    job_id: str = ""
    item_id: str = ""
    status: str = ""
    error: str = ""
    error_message: str = ""
    finish_reason: str = ""
    attempt: int | None = None
    duration_ms: float | None = None
    queue_ms: float | None = None
    ttft_ms: float | None = None
    tokens_per_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    confidence: float | None = None
    score: float | None = None
    strategy: str = ""
    content: str = ""
    epoch: int = 0
    event_id: str = ""
    data: dict[str, Any] = {}


class Column(NamedTuple):
    """`attribute`: the name that OpenTelemetry has for it, where it has one; its value there is the column's times
    `factor`."""

    meaning: str
    unit: str = ""
    attribute: str = ""
    factor: float = 1


COLUMNS: dict[str, Column] = {
    "kind": Column("Kind of event, from the table above.", attribute="event.name"),
    "ts_us": Column("When it happened, by the wall clock of the machine it happened on.", "microseconds, UTC"),
    "source": Column("Address of the actor that wrote the event, such as `router/0`.", attribute="service.instance.id"),
    "node": Column("Address of the machine that actor ran on, where there are several.", attribute="host.name"),
    "run_id": Column("The run. Run ids sort by age."),
    "seq": Column("Number of the event in its run, from 1; 0 outside runs."),
    "trace_id": Column(
        "W3C trace of the run, 32 hexadecimal digits: its client's, or its own where `monitoring.otel` is on."
    ),
    "span_id": Column(
        "Span of the client that the run is a child of, 16 hexadecimal digits; NULL where it began the trace."
    ),
    "workflow": Column("Name of the workflow.", attribute="gen_ai.workflow.name"),
    "agent": Column("Name of the agent.", attribute="gen_ai.agent.name"),
    "replica": Column("Address of the agent's replica, such as `agent/technical/2`.", attribute="gen_ai.agent.id"),
    "provider": Column("What kind of endpoint was called: `openai` or `offline`.", attribute="gen_ai.provider.name"),
    "model": Column(
        "Name of the model, as its endpoint reports it; where it reported none, the entry of `models`.",
        attribute="gen_ai.response.model",
    ),
    "tenant": Column("Tenant of the API key."),
    "user_id": Column("User, as the client named it.", attribute="user.id"),
    "session_id": Column("The session.", attribute="gen_ai.conversation.id"),
    "channel": Column("How the run came in: `chat` (OpenAI route), `native`, `batch`, `cli` or `python`."),
    "priority": Column("Service class of the run: `interactive`, `tool` or `batch`."),
    "job_id": Column("The batch job."),
    "item_id": Column("The item of the batch job."),
    "status": Column("`ok`, `error` or `cancelled`, on the kinds that end something."),
    "error": Column("Slug of the error, such as `model-timeout`.", attribute="error.type"),
    "error_message": Column("What the error said; secrets in it are replaced.", attribute="error.message"),
    "finish_reason": Column(
        "Why the model stopped: `stop`, `length`, `tool_calls` or `content_filter`.",
        attribute="gen_ai.response.finish_reasons",
    ),
    "attempt": Column("Which try of the part it was, from 1."),
    "duration_ms": Column("How long it took.", "milliseconds"),
    "queue_ms": Column("How long it waited for a replica.", "milliseconds"),
    "ttft_ms": Column(
        "Time to the first token, where the answer was streamed.",
        "milliseconds",
        "gen_ai.response.time_to_first_chunk",
        0.001,
    ),
    "tokens_per_s": Column("Tokens of the answer in each second that the model wrote it.", "tokens/s"),
    "prompt_tokens": Column(
        "Tokens of the input, as the model's endpoint counts them.", "tokens", "gen_ai.usage.input_tokens"
    ),
    "cached_tokens": Column(
        "Those of `prompt_tokens` that the endpoint had in its cache.", "tokens", "gen_ai.usage.cache_read.input_tokens"
    ),
    "completion_tokens": Column(
        "Tokens of the answer, as the model's endpoint counts them.", "tokens", "gen_ai.usage.output_tokens"
    ),
    "reasoning_tokens": Column(
        "Those of `completion_tokens` that the model thought with.", "tokens", "gen_ai.usage.reasoning.output_tokens"
    ),
    "cost_usd": Column("What the tokens cost at the prices of `models`; NULL where the model has no price.", "USD"),
    "confidence": Column("How sure the routing policy or the aggregator was.", "0 to 1"),
    "score": Column(
        "What somebody thought of an answer (-1 to 1), or the value that an alert is about.",
        attribute="gen_ai.evaluation.score.value",
    ),
    "strategy": Column("Strategy that decided: of routing, balancing, aggregation or scaling."),
    "content": Column("What was asked or answered, as far as `monitoring.capture` allows."),
    "epoch": Column("Incarnation of the actor that wrote the event; grows with each restart."),
    "event_id": Column("Unique id of the event: where it comes from, and its number there."),
    "data": Column("Further facts of this kind of event: `data ->> '$.role'`."),
}
"""Every field of `Event`, in order. In SQL, `ts_us` is the timestamp `ts`."""


EVENTS: dict[str, str] = {
    "run.started": "A router took a run in. `channel`, `content`, `data.messages`, `data.sampled` (false: no spans).",
    "run.routed": "The routing policy chose. `strategy`, `confidence`, `data.agents`, `data.reason`, `data.scores`.",
    "run.quarantined": "A message ended the replicas that worked on it. `agent`, `error_message`, `data.replicas`.",
    "agent.started": "A part was sent to a replica. `replica`, `queue_ms`, `attempt`, `strategy`, `data.loads`.",
    "agent.token": "Text of an agent's answer (streamed to clients, never logged).",
    "agent.retried": "A replica died or a model failed; once more. `replica`, `error`, `attempt`, `data.delay_s`.",
    "agent.fallback": "Another agent or model is asked. `error`, `data.agent`, `data.model` or `data.degraded`.",
    "agent.hedged": "A second replica is asked, because the first takes long. `replica`, `data.after_s`.",
    "agent.finished": "A part ended: `status`, `duration_ms`; where `model` is set, with a call of it as below.",
    "model.finished": "Any other call of a model ended. `status`, `model`, times, tokens, `cost_usd`, `data.purpose`.",
    "tool.called": "A model asks for a tool. `agent`, `content` its arguments, `data.tool`, `data.call_id`.",
    "aggregate.finished": "The aggregator joined the parts. `strategy`, `duration_ms`, `data.parts`.",
    "context.built": "What models get of a long session has changed. `data.tokens`, `data.pieces`, `data.cached`.",
    "turn.committed": "A turn is durable. `data.role`, `data.turn`, `data.chars`, `data.partial`.",
    "run.finished": "The run ended: `status`, `error`, times, tokens; `data.rolled_back`, `data.cached`.",
    "run.repeated": "A run was asked for again, or twice at once: the answer there is stands. `duration_ms`, tokens.",
    "feedback.given": "Somebody says what an answer was worth. `score`, `run_id`, `data.thumb`, `data.comment`.",
    "session.created": "A session was made.",
    "session.deleted": "A session and all its turns were deleted.",
    "session.expired": "Sessions that nobody used any more were deleted. `data.sessions`.",
    "user.erased": "What a shard had of a user was deleted. `user_id`, `data.sessions`, `data.records`.",
    "memory.remembered": "Something is remembered of a user. `data.memories`, `data.superseded`, `data.evicted`.",
    "memory.dropped": "A turn is not remembered: too many others are being. `agent`.",
    "memory.forgotten": "Memories of a user were deleted by hand. `data.memories`.",
    "memory.consolidated": "Memories changed. `data.promoted`, `data.forgotten`, `data.facts`, `data.skills`.",
    "cache.invalidated": "Kept answers of a tenant were forgotten, or all. `tenant`, `agent`, `data.everything`.",
    "breaker.opened": "A model is not called for a while. `model`, `error`, `data.failures`, `data.open_s`.",
    "breaker.cooling": "An endpoint wants to be left alone (429). `model`, `data.wait_s`.",
    "breaker.closed": "A model is called again. `model`, `data.after_s`.",
    "replica.ejected": "A router leaves a replica out for a while. `agent`, `replica`, `data.reason`, `data.out_s`.",
    "actor.started": "An actor joined. `source` is its address, `data.pid`.",
    "actor.lost": "An actor died without being asked to. `error_message`.",
    "actor.restarted": "The coordinator started a lost actor again. `data.attempt`, `data.delay_s`.",
    "actor.parked": "An actor died too often and stays down. `data.restarts`.",
    "actor.stopped": "An actor stopped as asked.",
    "pool.scaled": "A pool grows or shrinks. `agent`, `strategy`, `data.reason`, `data.from`, `data.to`.",
    "system.started": "All actors are up. `duration_ms`, `data.timeline`.",
    "system.adopted": "A new coordinator found its actors. `duration_ms`, `data.alive` of `data.expected`.",
    "system.reconfigured": "All actors have the new configuration, or none. `status`, `duration_ms`, `data.replaced`.",
    "system.sampled": "How loaded the machine of the event log is, 0 to 1. `data.cpu_usage`, `data.memory_usage`.",
    "system.stopping": "Shutdown began. `data.reason`.",
    "eventlog.dropped": "Events were lost before they reached the disk. `source`, `data.events`, `data.reason`.",
    "alert.raised": "A measure is beyond its limit. `score`, `data.metric`, `data.threshold`, `data.window_s`.",
    "alert.cleared": "It is within its limit again (`score`), or its rule is gone. `data` as of `alert.raised`.",
    "workflow.tracked": "A program timed a stretch of itself. `workflow` its name, `status`, `error`, `duration_ms`.",
    "batch.started": "A batch job began. `job_id`, `data.input`, `data.items`.",
    "batch.paused": "A batch job waits. `job_id`, `error`, `error_message`.",
    "batch.resumed": "A batch job goes on. `job_id`.",
    "batch.finished": "A batch job ended. `job_id`, `status`, `data.ok`, `data.failed`.",
}


# Facts of events may come from anywhere in the process: one that JSON does not know is shown as text, not refused.
_ENCODER = msgspec.json.Encoder(enc_hook=str)


def encode_lines(events: Sequence[Event]) -> bytes:
    """One line of JSON for each event, without what is default. No event is refused: what cannot be written of it is
    replaced."""
    try:
        return _ENCODER.encode_lines(events)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return b"".join(map(_encode_replacing, events))


def _encode_replacing(event: Event) -> bytes:
    for attempt in (lambda: event, lambda: _readable(msgspec.to_builtins(event, str_keys=True, enc_hook=str))):
        try:
            return _ENCODER.encode(attempt()) + b"\n"
        except (ValueError, TypeError, OverflowError, RecursionError):
            continue
    return _ENCODER.encode(Event(event.kind, event.ts_us, data={"unwritable": True})) + b"\n"


def _readable(value: Any) -> Any:
    """A lone surrogate (an undecodable file name in an error message, say) must not cost the event."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {_readable(key): _readable(item) for key, item in value.items()}
        case list():
            return [_readable(item) for item in value]
        case _:
            return value
