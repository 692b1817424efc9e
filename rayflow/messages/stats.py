"""Figures: what actors count, and whoever asks them, for Prometheus.

`FIGURES` is the list of all of them. Adding one is a line there and a call where it happens; no message changes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from rayflow.messages.base import Payload

WAIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)


class Figure(NamedTuple):
    """`labels` have few values: names of the configuration and words of rayflow, never a user or a session. Where the
    first is `router`, whoever asks a router puts it in front: sums over routers would jump when one of them starts
    anew, and Prometheus would take that for work."""

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


FIGURES: dict[str, Figure] = {
    "rayflow_stage_duration_seconds": Figure(
        "histogram",
        "Time that runs spent in a stage of their way, where they came through.",
        ("router", "stage"),
        STAGE_BUCKETS_S,
    ),
    "rayflow_queue_wait_seconds": Figure(
        "histogram", "Time that parts of runs waited for a replica.", ("router", "agent"), WAIT_BUCKETS_S
    ),
    "rayflow_time_per_output_token_seconds": Figure(
        "histogram", "Time for each token of an answer, after the first.", ("router", "agent"), TOKEN_BUCKETS_S
    ),
    "rayflow_parts": Figure("counter", "Parts of runs that ended.", ("router", "agent", "status")),
    "rayflow_model_calls": Figure("counter", "Calls of models that ended.", ("router", "model", "status")),
    "rayflow_model_tokens": Figure("counter", "Tokens of calls of models.", ("router", "model", "kind")),
    "rayflow_model_cost_usd": Figure("counter", "What calls of models cost, in US dollars.", ("router", "model")),
    "rayflow_retries": Figure("counter", "Parts that were asked for again.", ("router", "agent")),
    "rayflow_fallbacks": Figure("counter", "Steps to another agent or model.", ("router", "agent")),
    "rayflow_hedges": Figure("counter", "Second calls of slow ones.", ("router", "agent")),
    "rayflow_ejections": Figure("counter", "Replicas that were left out for a while.", ("router", "agent")),
    "rayflow_selections": Figure("counter", "Calls by the replica that was chosen.", ("router", "agent", "replica")),
    "rayflow_rejections": Figure(
        "counter", "Calls that could not or did not wait for a replica.", ("router", "agent", "reason")
    ),
    "rayflow_run_errors": Figure("counter", "Runs that ended with an error.", ("router", "error")),
    "rayflow_breaker_state": Figure("gauge", "Circuit breaker: 0 closed, 1 half-open, 2 open.", ("router", "model")),
    "rayflow_pool_replicas": Figure("gauge", "Replicas of an agent.", ("router", "agent")),
    "rayflow_pool_in_flight": Figure("gauge", "Calls at an agent's replicas.", ("router", "agent")),
    "rayflow_pool_waiting": Figure("gauge", "Parts of runs that wait for a replica.", ("router", "agent")),
    "rayflow_events_buffered": Figure("gauge", "Events on their way to the event log.", ("router",)),
    "rayflow_events_written": Figure("counter", "Events that are on disk."),
    "rayflow_events_dropped": Figure("counter", "Events that were lost before they reached the disk."),
    "rayflow_event_log_bytes": Figure("counter", "Bytes of events that were written."),
    "rayflow_event_batches_refused": Figure("counter", "Batches of events that the disk did not take."),
    "rayflow_alerts_active": Figure("gauge", "Alert rules that are raised.", ("metric",)),
    "rayflow_batch_jobs": Figure("gauge", "Batch jobs that came over HTTP.", ("status",)),
    "rayflow_batch_rows": Figure("gauge", "Rows of those that are not finished.", ("outcome",)),
}
"""By name; a counter's gets `_total` behind it."""


class GetStats(Payload, frozen=True, tag=True):
    """Ask an actor for its figures. Reply: `Stats`."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One figure of one actor, since its process started. `counts`: of a histogram, how many values were in each
    bucket, the last one for those above all bounds; `value` is then their sum."""

    name: str
    labels: list[str] = []
    value: float = 0.0
    counts: list[int] = []


class Stats(Payload, frozen=True, tag=True):
    samples: list[Sample]
