"""How many replicas an agent has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rayflow.config.sections.base import Own, Section

Scaling = Literal["manual", "queue_depth", "target_concurrency", "predictive"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
CLOCK_PATTERN = r"^([01]\d|2[0-3]):[0-5]\d$"


class Schedule(Section):
    """Keep more replicas at certain times."""

    days: list[Day] = []
    """Days of the week; empty: every day."""
    start: Annotated[str, Field(pattern=CLOCK_PATTERN)]
    """Time of day, HH:MM in UTC."""
    end: Annotated[str, Field(pattern=CLOCK_PATTERN)]
    """Time of day, HH:MM in UTC; earlier than `start`: on the next day."""
    min: Annotated[int, Field(ge=0, le=256)]
    """Fewest replicas meanwhile, within `replicas.max`."""


class ScalingConfig(Section):
    """How many replicas an agent has, between `replicas.min` and `replicas.max`. The strategies: docs/policies.md."""

    strategy: Scaling | Own = "queue_depth"
    """manual: only by hand (`rayflow scale`). queue_depth: one for `queue_per_replica` waiting calls.
    target_concurrency: so that replicas are busy to `target`, over a stable and a panic window. predictive: the same
    for the load expected when a replica ordered now is ready. Or a policy of your own as FILE.py:NAME."""
    interval_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    """How often the load is looked at."""
    queue_per_replica: Annotated[int, Field(ge=1, le=10_000)] = 5
    """queue_depth: waiting calls that one replica is there for. It decides where a policy of your own fails, too."""
    target: Annotated[float, Field(gt=0, le=1)] = 0.7
    """target_concurrency, predictive: share of `replicas.max_in_flight` that a replica should be busy with."""
    stable_window_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """target_concurrency, predictive: time over which the load is averaged."""
    panic_window_s: Annotated[float, Field(gt=0, le=600)] = 6.0
    """The same in a panic."""
    panic_threshold: Annotated[float, Field(ge=1, le=100)] = 2.0
    """A panic begins when the panic window wants this many times the replicas there are; nothing shrinks in a panic."""
    staffing: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Spare capacity of this many square roots of the mean load (square-root staffing); 0: none."""
    queue_age_s: Annotated[float, Field(gt=0, le=600)] = 1.0
    """Every strategy but manual: a call that has waited for so long brings another replica."""
    start_up_s: Annotated[float, Field(gt=0, le=600)] = 2.0
    """predictive: seconds from the order of a replica until it serves."""
    down_delay_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """A pool shrinks to the most that was wanted within this time, and to nothing (`replicas.min: 0`) when no call has
    come within it."""
    max_up: Annotated[float, Field(gt=1, le=1000)] = 10.0
    """Most times the replicas there are, in one step."""
    max_down: Annotated[float, Field(gt=1, le=1000)] = 2.0
    """The pool is divided by no more than this in one step."""
    schedules: list[Schedule] = []
    """Times with more replicas."""
    slow_response_ms: Annotated[float, Field(gt=0, le=3_600_000)] | None = None
    """When the mean response takes longer than this over the stable window, the pool grows by `slow_factor`, once per
    window; unset: never."""
    slow_factor: Annotated[float, Field(gt=1, le=10)] = 1.5
    """See `slow_response_ms`."""
    options: dict[str, Any] = {}
    """Options of a policy of your own."""
