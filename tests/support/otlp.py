"""A collector for tests: takes OTLP over HTTP, as protobuf, and keeps what it was sent."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class OtlpStub:
    url: str = ""
    status: int = 200
    headers: list[dict[str, str]] = field(default_factory=list)
    traces: list[ExportTraceServiceRequest] = field(default_factory=list)
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)
    arrived: Event = field(default_factory=Event)
    """Set when spans have come."""

    @property
    def spans(self) -> list[Span]:
        return [
            span for request in self.traces for of in request.resource_spans for s in of.scope_spans for span in s.spans
        ]

    @property
    def last_metrics(self) -> dict[str, Metric]:
        (of,) = self.metrics[-1].resource_metrics
        return {metric.name: metric for scope in of.scope_metrics for metric in scope.metrics}


def plain(attributes: list[KeyValue]) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in attributes}


@contextmanager
def collecting() -> Iterator[OtlpStub]:
    stub = OtlpStub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if stub.status == 200:
                stub.headers.append({name.lower(): value for name, value in self.headers.items()})
                if self.path == "/v1/traces":
                    stub.traces.append(ExportTraceServiceRequest.FromString(body))
                    stub.arrived.set()
                else:
                    assert self.path == "/v1/metrics"
                    stub.metrics.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(stub.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
