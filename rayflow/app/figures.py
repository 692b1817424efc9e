"""The figures of the whole system: what all routers, the event log and the batch jobs have to say."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from rayflow.actors.outbox import EVENT_LOG
from rayflow.app.client import SystemClient
from rayflow.app.jobs.records import JobStore
from rayflow.errors import WorkflowError
from rayflow.messages import Alerts, GetAlerts, GetLogStats, GetStats, LogStats, Payload, Sample, Stats
from rayflow.messages.stats import FIGURES

TIMEOUT_S = 2.0


async def figures(client: SystemClient) -> list[Sample]:
    """Of all who answer; one that is being replaced says nothing this time."""
    directory = client.fabric.directory
    questions: list[tuple[str, Payload]] = [(router, GetStats()) for router in directory.addresses("router/")]
    if directory.endpoint(EVENT_LOG) is not None:
        questions += [(EVENT_LOG, GetLogStats()), (EVENT_LOG, GetAlerts())]
    jobs = asyncio.to_thread(lambda: list(_of_jobs(Path(client.config.storage.state))))
    *answers, batches = await asyncio.gather(*(_ask(client, *question) for question in questions), jobs)
    told = (*(sample for answer in answers for sample in answer), *batches)
    return [sample for sample in told if sample.name in FIGURES]  # else of an actor of another version


async def _ask(client: SystemClient, address: str, question: Payload) -> list[Sample]:
    try:
        return list(_said(address, await client.fabric.ask(address, question, TIMEOUT_S)))
    except WorkflowError:
        return []


def _said(address: str, answer: Payload) -> Iterator[Sample]:
    match answer:
        case Stats():
            for sample in answer.samples:
                yield replace(sample, labels=[address, *sample.labels])
        case LogStats():
            yield Sample("rayflow_events_written", [], answer.events)
            yield Sample("rayflow_events_dropped", [], answer.dropped)
            yield Sample("rayflow_event_log_bytes", [], answer.bytes)
            yield Sample("rayflow_event_batches_refused", [], answer.refused)
        case Alerts():
            raised: Counter[str] = Counter()
            for alert in answer.alerts:
                raised[alert.metric] += alert.firing
            for metric, rules in raised.items():
                yield Sample("rayflow_alerts_active", [metric], rules)


def _of_jobs(state: Path) -> Iterator[Sample]:
    records = list(JobStore(state).each())
    for status, jobs in Counter(record.status for record in records).items():
        yield Sample("rayflow_batch_jobs", [status], jobs)
    counts = [record.counts for record in records if record.unfinished]
    yield Sample("rayflow_batch_rows", ["completed"], sum(each.completed for each in counts))
    yield Sample("rayflow_batch_rows", ["failed"], sum(each.failed for each in counts))
    left = sum(max(0, each.total - each.completed - each.failed) for each in counts)
    yield Sample("rayflow_batch_rows", ["left"], left)
