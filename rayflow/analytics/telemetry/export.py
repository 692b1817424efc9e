"""From the log to the collector, and who waits when that takes nothing: nobody.

The log is the buffer. While the collector is away, no more of the log is read, so memory stays small whatever is going
on; when it is back, the export goes on where it was. What it will not take for long is given up, so that one bad batch
does not stop everything behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from opentelemetry.sdk.metrics.export import MetricsData

from rayflow.analytics.telemetry.measures import Measures
from rayflow.analytics.telemetry.spans import Span, Spans
from rayflow.analytics.telemetry.tail import Tail
from rayflow.clock import Clock

log = logging.getLogger(__name__)

MOST_SPANS = 512
"""In one request."""
PATIENCE_S = 600.0
"""After so long, spans that the collector does not take are dropped."""


class Receiver(Protocol):
    """Says whether it has what it was given, and why not."""

    @property
    def problem(self) -> str: ...

    def take_spans(self, spans: Sequence[Span]) -> bool: ...

    def take_metrics(self, metrics: MetricsData) -> bool: ...


class Export:
    """`metrics_s`: how often metrics are sent."""

    def __init__(self, tail: Tail, receiver: Receiver, measures: Measures, metrics_s: float, clock: Clock) -> None:
        self._tail = tail
        self._receiver = receiver
        self._measures = measures
        self._metrics_s = metrics_s
        self._clock = clock
        self._spans = Spans()
        self._pending: list[Span] = []
        self._failing_since: float | None = None
        self._measured_at = clock.now()
        self._given_up = 0

    @property
    def waiting(self) -> bool:
        """Whether there is something that the collector would not take."""
        return bool(self._pending)

    def step(self) -> bool:
        """Send some of what is new. Whether there may be more right now."""
        more = bool(self._pending) or self._read()
        sent = self._send()
        if sent:
            self._tail.arrived()
        if self._clock.now() - self._measured_at >= self._metrics_s:
            self.measure()
        return sent and more

    def finish(self) -> None:
        """Send all that is left, and the metrics. A collector that is away is not waited for."""
        while not self.waiting and self.step():
            pass
        if not self.waiting:
            self.measure()

    def measure(self) -> None:
        """Send the metrics as they are now."""
        self._measured_at = self._clock.now()
        metrics = self._measures.read()
        if metrics is not None and not self._receiver.take_metrics(metrics):
            log.debug("the collector did not take the metrics: %s; the next ones say the same", self._receiver.problem)

    def _read(self) -> bool:
        some = False
        for event in self._tail.read():
            some = True
            for span in self._spans.of(event):
                self._measures.saw(span)
                if span.sampled and span.trace_id:
                    self._pending.append(span)
        if self._tail.given_up > self._given_up:
            lost, self._given_up = self._tail.given_up - self._given_up, self._tail.given_up
            log.error("%d bytes of the log were never exported: the collector was away for too long", lost)
        return some

    def _send(self) -> bool:
        """Whether nothing is left to be sent."""
        while self._pending:
            batch = list(islice(self._pending, MOST_SPANS))
            if not self._receiver.take_spans(batch) and not self._impatient(len(batch)):
                return False
            self._failing_since = None
            del self._pending[: len(batch)]
        return True

    def _impatient(self, spans: int) -> bool:
        """Whether a batch that was not taken is to be dropped."""
        now = self._clock.now()
        if self._failing_since is None:
            self._failing_since = now
            problem = self._receiver.problem
            log.error("the collector takes no spans (%s); they are sent again, for %.0f s", problem, PATIENCE_S)
        if now - self._failing_since < PATIENCE_S:
            return False
        log.error("the collector did not take %d spans for %.0f s: they are dropped", spans, PATIENCE_S)
        return True
