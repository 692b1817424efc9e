"""The figures of all actors, as Prometheus sees them. A scrape asks for them, so every ingress process tells the
same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from rayflow.messages import Sample
from rayflow.messages.stats import FIGURES, Figure


class FigureSamples(Collector):
    """`samples`: those of the last scrape."""

    def __init__(self) -> None:
        self.samples: Sequence[Sample] = ()

    def collect(self) -> Iterable[Metric]:
        for name, figure in FIGURES.items():
            yield _family(name, figure, [sample for sample in self.samples if sample.name == name])


def _family(name: str, figure: Figure, samples: Iterable[Sample]) -> Metric:
    if figure.kind == "histogram":
        histogram = HistogramMetricFamily(name, figure.meaning, labels=figure.labels)
        bounds = [*map(str, figure.buckets), "+Inf"]
        for sample in samples:
            counts = list(zip(bounds, accumulate(sample.counts), strict=True))
            histogram.add_metric(sample.labels, counts, sample.value)
        return histogram
    family = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    plain = family(name, figure.meaning, labels=figure.labels)
    for sample in samples:
        plain.add_metric(sample.labels, sample.value)
    return plain
