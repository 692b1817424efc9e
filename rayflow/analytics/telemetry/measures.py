"""From events to OpenTelemetry's metrics: histograms of what models and agents take, and of what they use."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from rayflow.analytics.telemetry import semconv
from rayflow.analytics.telemetry.spans import Span, Value
from rayflow.events import COLUMNS

INPUT, OUTPUT, FIRST_CHUNK = (COLUMNS[name].attribute for name in ("prompt_tokens", "completion_tokens", "ttft_ms"))
_TOLD = {
    semconv.INVOKE_WORKFLOW: (COLUMNS["workflow"].attribute, semconv.ERROR_TYPE),
    semconv.INVOKE_AGENT: (COLUMNS["agent"].attribute, semconv.ERROR_TYPE),
    semconv.CHAT: (
        semconv.OPERATION,
        COLUMNS["provider"].attribute,
        semconv.REQUEST_MODEL,
        COLUMNS["model"].attribute,
        semconv.ERROR_TYPE,
    ),
}
"""What a measurement says beside its value: nothing of a user, a session or a run."""


class Measures:
    """Sums since this process began, as is usual for OpenTelemetry: the receiver sees where they start again."""

    def __init__(self, resource: Resource) -> None:
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
        operation = semconv.OPERATION_BUCKETS_S
        self._durations = {
            semconv.INVOKE_WORKFLOW: self._histogram(semconv.WORKFLOW_DURATION, "s", semconv.WORKFLOW_BUCKETS_S),
            semconv.INVOKE_AGENT: self._histogram(semconv.AGENT_DURATION, "s", operation),
            semconv.CHAT: self._histogram(semconv.OPERATION_DURATION, "s", operation),
        }
        self._first_chunk = self._histogram(semconv.FIRST_CHUNK, "s", operation)
        self._tokens = self._histogram(semconv.TOKEN_USAGE, "{token}", semconv.TOKEN_BUCKETS)

    def saw(self, span: Span) -> None:
        """Something ended. A repeated answer was counted when it was given first."""
        operation = str(span.attributes[semconv.OPERATION])
        duration = self._durations.get(operation)
        if duration is None or semconv.OWN + "repeated" in span.attributes:
            return
        about = {name: span.attributes[name] for name in _TOLD[operation] if name in span.attributes}
        duration.record((span.end_us - span.start_us) / 1e6, about)
        if operation == semconv.CHAT:
            self._call(span, about)

    def read(self) -> MetricsData | None:
        """All of it, to be sent."""
        return self._reader.get_metrics_data()

    def close(self) -> None:
        self._provider.shutdown()

    def _call(self, span: Span, about: dict[str, Value]) -> None:
        first = span.attributes.get(FIRST_CHUNK)
        if isinstance(first, float):
            self._first_chunk.record(first, about)
        for kind, attribute in (("input", INPUT), ("output", OUTPUT)):
            tokens = span.attributes.get(attribute)
            if isinstance(tokens, int):
                self._tokens.record(tokens, {**about, semconv.TOKEN_TYPE: kind})

    def _histogram(self, name: str, unit: str, buckets: Sequence[float]) -> Histogram:
        return self._meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=buckets)
