"""The story of a run for the eye, and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rayflow.analytics.story import Step, Story
from rayflow.analytics.telemetry.semconv import OPERATION, OWN
from rayflow.events import COLUMNS, Event

BAR = 32
"""Characters of the time line."""
_TOKENS = COLUMNS["prompt_tokens"].attribute, COLUMNS["completion_tokens"].attribute
_SAID = frozenset(
    ("kind", "ts_us", "source", "node", "run_id", "seq", "trace_id", "span_id", "workflow", "tenant", "user_id",
     "session_id", "channel", "priority", "job_id", "item_id", "epoch", "event_id", "data")
)  # fmt: skip
"""What is the same in all events of a run, or stands elsewhere."""


def as_text(story: Story) -> str:
    return "\n".join([*_head(story), "", *_routing(story), *_waterfall(story), "", *_events(story)])


def as_json(story: Story) -> dict[str, Any]:
    """`steps`: the spans as a list, each with the id of its parent; `events`: all that the log has."""
    end = story.end
    return {
        "run_id": story.run_id,
        "trace_id": story.events[0].trace_id,
        "workflow": story.events[0].workflow,
        "session_id": story.events[0].session_id,
        "status": end.status if end else "unfinished",
        "duration_ms": end.duration_ms if end else None,
        "steps": [_step(step) for step in story.steps],
        "events": [
            {"at_ms": story.at_ms(event.ts_us), **msgspec.to_builtins(event)} for event in story.events
        ],
    }  # fmt: skip


def _step(step: Step) -> dict[str, Any]:
    span = step.span
    return {
        "name": span.name,
        "span_id": span.span_id,
        "parent": span.parent,
        "depth": step.depth,
        "at_ms": step.at_ms,
        "duration_ms": step.took_ms,
        "error": span.error,
        "attributes": dict(span.attributes),
    }


def _head(story: Story) -> Iterator[str]:
    first, end = story.events[0], story.end
    how = "unfinished" if end is None else f"{end.status} after {end.duration_ms or 0:.1f} ms"
    yield f"run {story.run_id}: {how}"
    facts = {
        "workflow": first.workflow,
        "session": first.session_id,
        "channel": first.channel,
        "tenant": first.tenant,
        "user": first.user_id,
        "trace": first.trace_id,
        "router": first.source,
    }
    if end is not None:
        facts |= {"tokens": f"{end.prompt_tokens or 0} + {end.completion_tokens or 0}"}
        if end.cost_usd is not None:
            facts["cost"] = f"{end.cost_usd:.6f} USD"
        if end.error:
            facts["error"] = f"{end.error}: {end.error_message}"
    yield from (f"  {name:<9} {value}" for name, value in facts.items() if value)


def _routing(story: Story) -> Iterator[str]:
    decision = story.decision
    if decision is None:
        return
    agents = ", ".join(decision.data.get("agents", ()))
    sure = f", {decision.confidence:.2f} sure" if decision.confidence is not None else ""
    yield f"routing: {decision.strategy} chose {agents or 'nobody'}{sure}"
    if reason := decision.data.get("reason"):
        yield f"  {reason}"
    for agent, score in decision.data.get("scores", {}).items():
        chosen = "*" if agent in decision.data.get("agents", ()) else " "
        yield f"  {chosen} {agent:<24} {score:.4f}"
    yield ""


def _waterfall(story: Story) -> Iterator[str]:
    if not story.steps:
        yield "steps: none has ended"
        return
    names = ["  " * step.depth + step.span.name for step in story.steps]
    width = max(map(len, names))
    begin = min(step.at_ms for step in story.steps)
    whole = max(step.at_ms + step.took_ms for step in story.steps) - begin
    yield f"{'steps':<{width}}  {'':<{BAR}}  {'at ms':>9}  {'took ms':>9}"
    for name, step in zip(names, story.steps, strict=True):
        bar = _bar(step.at_ms - begin, step.took_ms, whole)
        yield f"{name:<{width}}  {bar}  {step.at_ms:>9.1f}  {step.took_ms:>9.1f}  {_notes(step)}".rstrip()


def _bar(at_ms: float, took_ms: float, whole_ms: float) -> str:
    scale = BAR / whole_ms if whole_ms else 0.0
    start = min(round(at_ms * scale), BAR - 1)
    length = max(1, min(round(took_ms * scale), BAR - start))
    return " " * start + "━" * length + " " * (BAR - start - length)


def _notes(step: Step) -> str:
    attributes = step.span.attributes
    notes = [str(attributes[name]) for name in (OWN + "replica", COLUMNS["replica"].attribute) if name in attributes]
    if attributes.get(OWN + "attempt", 1) != 1:
        notes.append(f"attempt {attributes[OWN + 'attempt']}")
    queued = attributes.get(OWN + "queue_ms")
    if isinstance(queued, float) and queued >= 0.05:
        notes.append(f"waited {queued:.1f} ms")
    if attributes[OPERATION] == "chat" and all(name in attributes for name in _TOKENS):
        notes.append(f"{attributes[_TOKENS[0]]} + {attributes[_TOKENS[1]]} tokens")
    if step.span.error is not None:
        notes.append(f"! {step.span.error}")
    return ", ".join(notes)


def _events(story: Story) -> Iterator[str]:
    width = max(len(event.kind) for event in story.events)
    yield "events"
    for event in story.events:
        yield f"{story.at_ms(event.ts_us):>9.1f}  {event.kind:<{width}}  {_facts(event)}".rstrip()


def _facts(event: Event) -> str:
    own = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _SAID}
    told = {**{name: value for name, value in own.items() if value not in ("", None)}, **event.data}
    return " ".join(f"{name}={_shown(value)}" for name, value in told.items())


def _shown(value: object) -> str:
    match value:
        case float():
            return f"{value:.6g}"
        case str() if value and not any(character in value for character in ' "\n'):
            return value
        case _:
            return msgspec.json.encode(value).decode()
