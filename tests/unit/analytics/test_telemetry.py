"""What is in the log arrives at the collector: once, whole, and later where it was away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from log_samples import NOON_US, SOURCE
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from support.otlp import collecting, plain

from rayflow.analytics.log import SegmentLog
from rayflow.analytics.rolling import roll_all
from rayflow.analytics.telemetry import export as export_module
from rayflow.analytics.telemetry import tail as tail_module
from rayflow.analytics.telemetry.collector import Collector
from rayflow.analytics.telemetry.export import Export
from rayflow.analytics.telemetry.measures import Measures
from rayflow.analytics.telemetry.spans import Span
from rayflow.analytics.telemetry.tail import Tail
from rayflow.app.telemetry import check, export
from rayflow.config.schema import WorkflowConfig
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch
from rayflow.tracing import Tracing, agent_span, call_span, run_span

RESOURCE = Resource({"service.name": "test"})


def run(number: int, status: str = "ok") -> list[Event]:
    """The events of a run that took 4 s: routed after one, its call of a model began at two."""
    run_id = f"run_{number}"
    _, trace_id, *_ = Tracing(1.0).begin("", run_id, 0)[0].split("-")

    def event(kind: str, after_s: float, **fields: object) -> Event:
        at = NOON_US + round(after_s * 1e6)
        return Event(kind, at, "router/0", run_id=run_id, seq=1, trace_id=trace_id, workflow="team", **fields)  # type: ignore[arg-type]

    return [
        event("run.started", 0.0, data={"messages": 1}),
        event("run.routed", 1.0, data={"agents": ["a"]}),
        event(
            "agent.finished", 3.0, agent="a", replica="agent/a/0", provider="openai", model="m", status="ok",
            attempt=1, duration_ms=1000.0, ttft_ms=200.0, prompt_tokens=5, completion_tokens=70,
        ),
        event("run.finished", 4.0, status=status, duration_ms=4000.0),
    ]  # fmt: skip


@dataclass
class Log:
    """An event log that is written to."""

    root: Path
    next: int = 0
    segments: SegmentLog = field(init=False)

    def __post_init__(self) -> None:
        self.segments = SegmentLog(self.root, SOURCE, 1 << 26, 300.0)

    def write(self, *events: Event) -> None:
        self.segments.append([EventBatch("origin", self.next, len(events), encode_lines(events))])
        self.next += len(events)

    def roll(self) -> None:
        self.segments.close()
        assert roll_all(self.root, SOURCE).rolled == 1


@dataclass
class Inbox:
    """A receiver that takes nothing while it is `away`."""

    away: bool = False
    spans: list[Span] = field(default_factory=list)
    metrics: int = 0
    problem: str = "away"

    def take_spans(self, spans: list[Span]) -> bool:
        if not self.away:
            self.spans += spans
        return not self.away

    def take_metrics(self, _: MetricsData) -> bool:
        self.metrics += 1
        return not self.away


class HandClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wall_us(self) -> int:
        return 0


@pytest.fixture
def log(root: Path) -> Iterator[Log]:
    made = Log(root)
    yield made
    made.segments.close()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def exporter(root: Path, tmp_path: Path, inbox: Inbox, clock: HandClock) -> Iterator[Callable[[], Export]]:
    tails: list[Tail] = []

    def make() -> Export:
        tails.append(Tail(root, tmp_path / "book.json"))
        return Export(tails[-1], inbox, Measures(RESOURCE), 10.0, clock)

    yield make
    for tail in tails:
        tail.close()


def test_a_run_arrives_at_the_collector_as_one_trace(log: Log, tmp_path: Path) -> None:
    log.write(*run(1, status="error"))
    with collecting() as stub:
        otel = {"enabled": True, "endpoint": stub.url, "headers": {"x-key": "k"}, "service_name": "shop"}
        config = WorkflowConfig.model_validate(
            {
                "name": "team",
                "agents": [{"name": "a"}],
                "monitoring": {"otel": otel},
                "storage": {"state": str(tmp_path), "events": str(log.root)},
            }
        )
        check(config)
        stopped = threading.Event()
        stopped.set()
        export(config, stopped)
        spans = {span.name: span for span in stub.spans}
        assert len(stub.spans) == len(spans) == 3
        root, part, chat = (spans[name] for name in ("invoke_workflow team", "invoke_agent a", "chat m"))
        assert {span.trace_id for span in spans.values()} == {root.trace_id}
        assert root.span_id.hex() == run_span("run_1", 0)
        assert root.parent_span_id == b""
        assert (part.span_id.hex(), part.parent_span_id) == (agent_span("run_1", 0, "a"), root.span_id)
        assert (chat.span_id.hex(), chat.parent_span_id) == (call_span("run_1", "a", 1, "agent/a/0"), part.span_id)
        assert [took_s(span) for span in (root, part, chat)] == [4.0, 2.0, 1.0]
        assert chat.kind == OtlpSpan.SPAN_KIND_CLIENT
        assert root.status.code == Status.STATUS_CODE_ERROR
        assert plain(root.attributes)["workflow.status"] == "error"
        assert plain(chat.attributes)["gen_ai.usage.output_tokens"] == 70
        assert all(headers["x-key"] == "k" for headers in stub.headers)
        assert plain(stub.traces[0].resource_spans[0].resource.attributes)["service.name"] == "shop"
        metrics = stub.last_metrics
        assert metrics.keys() == {
            "gen_ai.workflow.duration", "gen_ai.invoke_agent.duration", "gen_ai.client.operation.duration",
            "gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.token.usage",
        }  # fmt: skip
        (workflow,) = metrics["gen_ai.workflow.duration"].histogram.data_points
        assert list(workflow.explicit_bounds) == [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200]
        assert (workflow.count, workflow.sum, list(workflow.bucket_counts)[:3]) == (1, 4.0, [0, 1, 0])
        tokens = {
            plain(point.attributes)["gen_ai.token.type"]: point.sum
            for point in metrics["gen_ai.client.token.usage"].histogram.data_points
        }
        assert tokens == {"input": 5, "output": 70}
        (first,) = metrics["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points
        assert (first.sum, first.explicit_bounds[0], first.explicit_bounds[-1]) == (pytest.approx(0.2), 0.01, 81.92)


def took_s(span: OtlpSpan) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def test_what_was_sent_is_not_sent_again(log: Log, inbox: Inbox, exporter: Callable[[], Export]) -> None:
    first = exporter()
    assert not first.step()  # there is no log yet
    log.write(*run(1))
    first.finish()
    log.write(*run(2))
    first.finish()
    again = exporter()
    again.finish()
    log.write(*run(3))
    again.finish()
    assert [span.attributes["workflow.id"] for span in inbox.spans if "workflow.id" in span.attributes] == [
        "run_1", "run_2", "run_3",
    ]  # fmt: skip


def test_a_segment_that_is_rolled_meanwhile_is_read_to_its_end(
    log: Log, inbox: Inbox, exporter: Callable[[], Export]
) -> None:
    exporting = exporter()
    log.write(*run(1))
    exporting.step()
    log.write(*run(2))
    log.roll()
    log.write(*run(3))
    exporting.finish()
    assert len(inbox.spans) == 9


def test_while_the_collector_is_away_nothing_is_read_and_nothing_lost(
    log: Log, inbox: Inbox, exporter: Callable[[], Export], clock: HandClock
) -> None:
    exporting = exporter()
    inbox.away = True
    log.write(*run(1))
    exporting.step()
    log.write(*run(2))
    for _ in range(3):
        clock.time += 100.0
        exporting.step()
    assert exporting.waiting
    assert len(exporting._pending) == 3
    inbox.away = False
    exporting.step()
    exporting.finish()
    assert len(inbox.spans) == 6


def test_a_crash_before_the_collector_had_it_repeats_the_same_spans(
    log: Log, inbox: Inbox, exporter: Callable[[], Export]
) -> None:
    log.write(*run(1))
    inbox.away = True
    exporter().step()
    inbox.away = False
    again = exporter()
    again.finish()
    assert len({span.span_id for span in inbox.spans}) == len(inbox.spans) == 3


def test_spans_that_are_never_taken_are_dropped_one_day(
    log: Log,
    inbox: Inbox,
    exporter: Callable[[], Export],
    clock: HandClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    exporting = exporter()
    inbox.away = True
    log.write(*run(1))
    exporting.step()
    clock.time += export_module.PATIENCE_S
    exporting.step()
    assert not exporting.waiting
    assert "takes no spans (away)" in caplog.text
    assert "they are dropped" in caplog.text


def test_of_segments_that_nobody_could_read_the_oldest_are_given_up(
    log: Log,
    inbox: Inbox,
    exporter: Callable[[], Export],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tail_module, "MOST_OPEN", 2)
    monkeypatch.setattr(tail_module, "MOST_BYTES", 1)
    exporting = exporter()
    for number in range(5):
        log.write(*run(number))
        exporting._tail._open_new()
        log.roll()
    exporting.finish()
    assert "were never exported" in caplog.text
    assert 0 < len(inbox.spans) < 15


def test_a_collector_that_refuses_says_why(log: Log, root: Path, tmp_path: Path, clock: HandClock) -> None:
    log.write(*run(1))
    with collecting() as stub:
        stub.status = 401
        tail, collector = Tail(root, tmp_path / "book.json"), Collector(stub.url + "/", {}, RESOURCE)
        exporting = Export(tail, collector, Measures(RESOURCE), 10.0, clock)
        exporting.step()
        assert exporting.waiting
        assert "401" in collector.problem or "Unauthorized" in collector.problem
        collector.close()
        tail.close()


def test_a_run_that_is_not_sampled_is_counted_and_not_sent(
    log: Log, inbox: Inbox, exporter: Callable[[], Export]
) -> None:
    started, *others = run(1)
    log.write(Event(**{**{f: getattr(started, f) for f in started.__struct_fields__}, "data": {"sampled": False}}))
    log.write(*others)
    exporting = exporter()
    exporting.finish()
    assert inbox.spans == []
    metrics = exporting._measures.read()
    assert metrics is not None
    assert "gen_ai.workflow.duration" in metrics.to_json()


def test_metrics_are_sent_in_their_own_rhythm(
    log: Log, inbox: Inbox, exporter: Callable[[], Export], clock: HandClock
) -> None:
    exporting = exporter()
    log.write(*run(1))
    for _ in range(25):
        clock.time += 1.0
        exporting.step()
    assert inbox.metrics == 2


def test_a_record_in_two_reads_is_read_once(
    log: Log, inbox: Inbox, exporter: Callable[[], Export], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "MOST_BYTES", 100)
    for number in range(4):
        log.write(*run(number))
    exporter().finish()
    assert len({span.span_id for span in inbox.spans}) == len(inbox.spans) == 12


def test_a_batch_of_many_events_is_sent_in_several_requests(
    log: Log, inbox: Inbox, exporter: Callable[[], Export], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "MOST_SPANS", 2)
    log.write(*run(1), *run(2))
    exporter().finish()
    assert len(inbox.spans) == 6
