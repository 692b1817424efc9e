"""What this ingress process counts, and what all actors do, for Prometheus. `docs/metrics.md` is the table of it; a
test compares the two.

Labels have few values: never a user, a session or a path as the client wrote it. A run counts as in flight from the
moment it is sent to a router until its result, error or cancellation is back.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rayflow.api.cache_metrics import CacheSamples
from rayflow.api.figure_metrics import FigureSamples
from rayflow.api.problems import ClientGone
from rayflow.errors import Cancelled
from rayflow.messages import RunResult

RUN_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
FIRST_TOKEN_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one ingress process, in a registry of their own. `workflow` is the value of `workflow_type`."""

    def __init__(self, workflow: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._executions = Counter(
            "workflow_executions", "Runs that ended.", ["workflow_type", "status"], registry=registry
        )
        self._duration = Histogram(
            "workflow_duration_seconds",
            "Time from sending a run to a router until its result is back.",
            ["workflow_type"],
            buckets=RUN_BUCKETS_S,
            registry=registry,
        ).labels(workflow)
        self._requests = Counter("rayflow_requests", "HTTP requests answered.", ["route", "code"], registry=registry)
        self._request_duration = Histogram(
            "rayflow_request_duration_seconds",
            "Time from the head of an HTTP request until the end of its answer.",
            ["route"],
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )
        self._first_token = Histogram(
            "rayflow_time_to_first_token_seconds",
            "Streamed runs: time from sending the run until the first piece of the answer.",
            buckets=FIRST_TOKEN_BUCKETS_S,
            registry=registry,
        )
        tokens = Counter("rayflow_tokens", "Tokens of runs, as the models counted them.", ["kind"], registry=registry)
        self._prompt_tokens = tokens.labels("prompt")
        self._completion_tokens = tokens.labels("completion")
        contexts = Counter(
            "rayflow_context_cache", "Runs by whether their context was in memory.", ["outcome"], registry=registry
        )
        self._contexts = {False: contexts.labels("hit"), True: contexts.labels("miss")}
        self.caches = CacheSamples()
        registry.register(self.caches)
        self.figures = FigureSamples()
        registry.register(self.figures)
        self._feedback = Counter("rayflow_feedback", "Opinions on answers.", ["thumb"], registry=registry)
        self.sockets: set[object] = set()
        """Those that are open."""
        open_sockets = Gauge("rayflow_websockets", "WebSockets that are open.", registry=registry)
        open_sockets.set_function(self.sockets.__len__)
        self._in_flight = Gauge("rayflow_runs_in_flight", "Runs that are not finished.", registry=registry)
        self._status = {status: self._executions.labels(workflow, status) for status in ("ok", "error", "cancelled")}
        self._by_answer: dict[tuple[str, int], Counter] = {}
        self._by_route: dict[str, Histogram] = {}

    def request(self, route: str, code: int, seconds: float) -> None:
        """An HTTP request was answered. `route` is a path template, not a path."""
        key = (route, code)
        if key not in self._by_answer:
            self._by_answer[key] = self._requests.labels(route, str(code))
            self._by_route[route] = self._request_duration.labels(route)
        self._by_answer[key].inc()
        self._by_route[route].observe(seconds)

    def opinion(self, thumb: str | None) -> None:
        """Somebody said what an answer was worth."""
        self._feedback.labels(thumb or "none").inc()

    def run(self) -> RunMeter:
        """`with metrics.run() as meter:` around one run."""
        return RunMeter(self)

    def expose(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class RunMeter:
    """Measures the run inside its `with` block: an exception is an error, a cancellation cancels."""

    __slots__ = ("_first", "_metrics", "_started", "_status")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started = time.perf_counter()
        self._first = True
        self._status = "ok"

    def __enter__(self) -> RunMeter:
        self._metrics._in_flight.inc()
        return self

    def token(self) -> None:
        """A piece of the answer is here."""
        if self._first:
            self._first = False
            self._metrics._first_token.observe(time.perf_counter() - self._started)

    def finished(self, result: RunResult) -> None:
        if not result.metadata.get("repeated"):  # else they were counted where it was answered
            self._metrics._prompt_tokens.inc(result.usage.prompt_tokens)
            self._metrics._completion_tokens.inc(result.usage.completion_tokens)
        if result.context_read is not None:
            self._metrics._contexts[result.context_read].inc()

    def failed(self, error: BaseException) -> None:
        """The run ended with an error that is answered within the block."""
        gone = isinstance(error, asyncio.CancelledError | Cancelled | ClientGone)
        self._status = "cancelled" if gone else "error"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self.failed(error)
        self._metrics._in_flight.dec()
        self._metrics._status[self._status].inc()
        self._metrics._duration.observe(time.perf_counter() - self._started)
