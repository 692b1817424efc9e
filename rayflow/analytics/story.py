"""The story of one run, as the log tells it: what was decided, who was asked when, what it met, how long all took.

Its steps are the spans that OpenTelemetry would get, so both tell the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from rayflow.analytics.database import Log
from rayflow.analytics.telemetry.spans import Span, Spans
from rayflow.errors import NotFound
from rayflow.events import Event

_LAST = "SELECT run_id FROM events WHERE kind = 'run.finished' ORDER BY ts DESC LIMIT 1"
_EVENTS = """
SELECT * EXCLUDE (ts, date, data), epoch_us(ts) AS ts_us, CAST(data AS VARCHAR) AS data
FROM events
WHERE run_id = $run_id
    AND ts >= run_began($run_id) - INTERVAL 1 HOUR AND date >= CAST(run_began($run_id) - INTERVAL 1 HOUR AS DATE)
ORDER BY seq, ts_us, kind
"""


@dataclass(frozen=True, slots=True)
class Step:
    """`depth`: 0 for the run itself, and for what no longer has its place below it. `at_ms`: since the run's first
    event."""

    span: Span
    depth: int
    at_ms: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class Story:
    """`events`: all of the run, in order. `end`: the one that ended it; None while it lasts, or where that is lost."""

    run_id: str
    events: list[Event]
    steps: list[Step] = field(default_factory=list)

    @property
    def end(self) -> Event | None:
        return next((event for event in reversed(self.events) if event.kind == "run.finished"), None)

    @property
    def decision(self) -> Event | None:
        """The last one, where a router that died had made one, too."""
        return next((event for event in reversed(self.events) if event.kind == "run.routed"), None)

    def at_ms(self, ts_us: int) -> float:
        return (ts_us - self.events[0].ts_us) / 1000


def read_story(log: Log, run_id: str = "") -> Story:
    """Of this run, or of the one that ended last. Raises `NotFound`, and what `Log.query` raises."""
    if not run_id:
        last = log.query(_LAST).to_pylist()
        if not last:
            raise NotFound("no run has ended in this log", kind="run", id="")
        run_id = last[0]["run_id"]
    events = [_event(row) for row in log.query(_EVENTS, {"run_id": run_id}).to_pylist()]
    if not events:
        raise NotFound(f"the log tells nothing of a run {run_id}", kind="run", id=run_id)
    spans = Spans()
    story = Story(run_id, events)
    story.steps.extend(_ordered([span for event in events for span in spans.of(event)], story))
    return story


def _event(row: dict[str, Any]) -> Event:
    data = msgspec.json.decode(row.pop("data") or "{}")
    return Event(**{name: value for name, value in row.items() if value is not None}, data=data)


def _ordered(spans: list[Span], story: Story) -> list[Step]:
    """Each below its parent, by when it began."""
    known = {span.span_id for span in spans}
    steps: list[Step] = []

    def add(parent: str | None, depth: int) -> None:
        below = [span for span in spans if (span.parent if span.parent in known else None) == parent]
        for span in sorted(below, key=lambda span: (span.start_us, span.end_us)):
            took_ms = (span.end_us - span.start_us) / 1000
            steps.append(Step(span, depth, story.at_ms(span.start_us), took_ms))
            add(span.span_id, depth + 1)

    add(None, 0)
    return steps
