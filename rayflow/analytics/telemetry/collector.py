"""The collector: spans and metrics as OTLP over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from rayflow.analytics.telemetry import semconv
from rayflow.analytics.telemetry.spans import Span

TIMEOUT_S = 5.0
"""For one request with its repetitions, which the exporter makes itself where they can help."""
_SCOPE = InstrumentationScope(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class _LastWord(logging.Handler):
    """Exporters say why they fail in their log, each time and nowhere else."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said = record.getMessage()


class Collector:
    """Blocks while it sends. `endpoint`: without the path of a signal; where there is none, and no headers, the
    environment says."""

    def __init__(self, endpoint: str | None, headers: Mapping[str, str], resource: Resource) -> None:
        traces, metrics = (_of(endpoint, signal) for signal in ("traces", "metrics"))
        self._resource = resource
        self._log, self._last = logging.getLogger("opentelemetry.exporter"), _LastWord()
        self._log.addHandler(self._last)
        self._log.propagate = False
        self._spans = OTLPSpanExporter(traces, headers=headers or None, timeout=TIMEOUT_S)
        self._metrics = OTLPMetricExporter(metrics, headers=headers or None, timeout=TIMEOUT_S)

    @property
    def problem(self) -> str:
        """Why it took nothing, the last time that it did not."""
        return self._last.said

    def take_spans(self, spans: Sequence[Span]) -> bool:
        """Whether it has them."""
        readable = [_readable(span, self._resource) for span in spans]
        return self._spans.export(readable) is SpanExportResult.SUCCESS

    def take_metrics(self, metrics: MetricsData) -> bool:
        return self._metrics.export(metrics) is MetricExportResult.SUCCESS

    def close(self) -> None:
        self._log.removeHandler(self._last)
        self._spans.shutdown()  # type: ignore[no-untyped-call]
        self._metrics.shutdown()


def _of(endpoint: str | None, signal: str) -> str | None:
    return f"{endpoint.rstrip('/')}/v1/{signal}" if endpoint is not None else None


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        _context(span.trace_id, span.span_id),
        _context(span.trace_id, span.parent, remote=True) if span.parent else None,
        resource,
        span.attributes,
        kind=SpanKind.CLIENT if span.attributes[semconv.OPERATION] == semconv.CHAT else SpanKind.INTERNAL,
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.start_us * 1000,
        end_time=span.end_us * 1000,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: str, span_id: str, *, remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, _SAMPLED)
