"""What all caches of the system count, as samples. Routers and session stores count; a scrape asks them, so every
ingress process tells the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rayflow.messages import CacheCounts

PLACE = ["cache", "level"]


class CacheSamples(Collector):
    """`counts`: those of the last scrape."""

    def __init__(self) -> None:
        self.counts: Sequence[CacheCounts] = ()

    def collect(self) -> Iterable[Metric]:
        lookups = CounterMetricFamily("rayflow_cache_lookups", "Lookups.", labels=[*PLACE, "outcome"])
        stores = CounterMetricFamily("rayflow_cache_stores", "Entries that were kept.", labels=PLACE)
        evictions = CounterMetricFamily("rayflow_cache_evictions", "Entries that made room for others.", labels=PLACE)
        entries = GaugeMetricFamily("rayflow_cache_entries", "Entries in memory.", labels=PLACE)
        for each in self.counts:
            place = [each.cache, each.level]
            lookups.add_metric([*place, "hit"], each.hits)
            lookups.add_metric([*place, "miss"], each.misses)
            stores.add_metric(place, each.stores)
            evictions.add_metric(place, each.evictions)
            entries.add_metric(place, each.entries)
        return lookups, stores, evictions, entries
