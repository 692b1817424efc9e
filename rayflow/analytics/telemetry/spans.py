"""From events to spans. Pure.

    invoke_workflow team                     run.finished
      chat router-model                        model.finished with a purpose
      invoke_agent billing                     agent.finished
        chat gpt                                 model.finished: a call that failed, and was repeated
        chat gpt                                 agent.finished: the call that was answered
      aggregate best_of                        aggregate.finished

Every event that ends something becomes a span on its own, as soon as it is there: its name is derived from what the
event says (`rayflow.tracing`), so is that of its parent, and the event knows how long it took. Only the beginning of an
agent's part is remembered, because that is told where it is routed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rayflow.analytics.telemetry import semconv
from rayflow.events import COLUMNS, Event
from rayflow.messages.runs import ATTEMPT_NUMBERS, PART_ATTEMPTS
from rayflow.tracing import agent_span, call_span, other_span, run_span

Value = str | bool | int | float | tuple[str, ...]

MOST_RUNS = 50_000
"""Runs under way that are remembered; a part of an older one begins, for its span, with its last attempt."""

_NAMELESS = frozenset(
    {"kind", "ts_us", "source", "node", "seq", "trace_id", "span_id", "event_id", "data", "content", "score", "epoch"}
)
"""Columns that are no attributes: they are parts of the span itself, or stay in the log."""
_OF_CALLS = frozenset(
    (
        *("provider", "model", "finish_reason", "prompt_tokens", "cached_tokens", "completion_tokens"),
        *("reasoning_tokens", "cost_usd", "ttft_ms", "tokens_per_s"),
    )
)
_OF_PARTS = frozenset({"queue_ms"})
_ENDS = frozenset({"duration_ms", "status"})
_ATTRIBUTES = {
    name: (column.attribute or semconv.OWN + name, column.factor)
    for name, column in COLUMNS.items()
    if name not in _NAMELESS | _ENDS
}


class Span(NamedTuple):
    """Ids are hexadecimal; `parent` is "" for a root, `trace_id` where the run was not traced. Times are microseconds
    since the epoch. `error`: what went wrong, None where nothing did."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    start_us: int
    end_us: int
    attributes: Mapping[str, Value]
    error: str | None = None
    sampled: bool = True
    """Whether it is to be sent, or to be counted only."""


@dataclass(slots=True)
class _Run:
    sampled: bool = True
    begun_us: dict[str, int] = field(default_factory=dict)
    """When the part of each agent began."""


class Spans:
    """Takes the events of a log in order. It remembers the runs under way."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def of(self, event: Event) -> list[Span]:
        """The spans that end with this event."""
        if not event.run_id:
            return []
        run = self._runs.get(event.run_id)
        match event.kind:
            case "run.started":
                self._remember(event)
                return []
            case "run.routed" if run is not None:
                run.begun_us.update(dict.fromkeys(event.data.get("agents", ()), event.ts_us))
                return []
            case "run.finished" | "run.repeated":
                self._runs.pop(event.run_id, None)
        run = run or _Run()
        return [span._replace(sampled=run.sampled) for span in _spans(event, run)]

    def _remember(self, event: Event) -> None:
        self._runs[event.run_id] = _Run(event.data.get("sampled", True))
        if len(self._runs) > MOST_RUNS:
            self._runs.popitem(last=False)


def _spans(event: Event, run: _Run) -> Iterator[Span]:
    attempt = event.seq // ATTEMPT_NUMBERS
    root = run_span(event.run_id, attempt)
    match event.kind:
        case "run.finished":
            yield _span(event, semconv.INVOKE_WORKFLOW, event.workflow, root, event.span_id)
        case "run.repeated":
            yield _span(event, semconv.INVOKE_WORKFLOW, event.workflow, other_span(event.event_id), event.span_id)
        case "agent.finished":
            part = agent_span(event.run_id, attempt, event.agent)
            if event.model:
                yield _span(event, semconv.CHAT, _asked(event), _call(event, attempt), part, _OF_PARTS)
            yield _part(event, run, part, root)
        case "agent.fallback" if event.data.get("agent", event.agent) != event.agent:
            run.begun_us[event.data["agent"]] = event.ts_us
            yield _part(event, run, agent_span(event.run_id, attempt, event.agent), root)
        case "model.finished" if "purpose" in event.data:
            yield _span(event, semconv.CHAT, _asked(event), other_span(event.event_id), root)
        case "model.finished":
            part = agent_span(event.run_id, attempt, event.agent)
            yield _span(event, semconv.CHAT, _asked(event), _call(event, attempt), part, _OF_PARTS)
        case "aggregate.finished":
            yield _span(event, semconv.AGGREGATE, event.strategy, other_span(event.event_id), root)


def _part(event: Event, run: _Run, span: str, root: str) -> Span:
    """It began when it was routed to its agent; where that is forgotten, with its last attempt."""
    begun_us = run.begun_us.pop(event.agent, None)
    made = _span(event, semconv.INVOKE_AGENT, event.agent, span, root, _OF_CALLS)
    if begun_us is None:
        begun_us = made.start_us - round((event.queue_ms or 0.0) * 1000)
    return made._replace(start_us=min(begun_us, made.start_us))


def _call(event: Event, attempt: int) -> str:
    return call_span(event.run_id, event.agent, attempt * PART_ATTEMPTS + (event.attempt or 1), event.replica)


def _asked(event: Event) -> str:
    """The model as the configuration names it."""
    entry: str = event.data.get("entry", event.model)
    return entry


def _span(
    event: Event, operation: str, subject: str, span: str, parent: str, without: frozenset[str] = frozenset()
) -> Span:
    attributes: dict[str, Value] = {semconv.OPERATION: operation}
    for name, (attribute, factor) in _ATTRIBUTES.items():
        value = getattr(event, name)
        if value in ("", None) or name in without:
            continue
        attributes[attribute] = value if factor == 1 else value * factor
    match operation:
        case semconv.INVOKE_WORKFLOW:
            attributes |= {
                semconv.WORKFLOW_ID: event.run_id,
                semconv.WORKFLOW_TYPE: event.workflow,
                semconv.WORKFLOW_STATUS: event.status,
            }
            if event.kind == "run.repeated":
                attributes[semconv.OWN + "repeated"] = True
        case semconv.CHAT:
            attributes[semconv.REQUEST_MODEL] = _asked(event)
            if event.finish_reason:
                attributes[semconv.FINISH_REASONS] = (event.finish_reason,)
            if "response_id" in event.data:
                attributes[semconv.RESPONSE_ID] = event.data["response_id"]
            if "purpose" in event.data:
                attributes[semconv.OWN + "purpose"] = event.data["purpose"]
    return Span(
        f"{operation} {subject}".rstrip(),
        event.trace_id,
        span,
        parent,
        event.ts_us - round((event.duration_ms or 0.0) * 1000),
        event.ts_us,
        attributes,
        (event.error_message or event.error) if event.status == "error" or event.kind == "agent.fallback" else None,
    )
