"""When somebody is to be told that the system is not well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rayflow.config.sections.base import Mismatch, ReferenceProblems, Section

Metric = Literal["response_time", "error_rate", "throughput", "cpu_usage", "memory_usage"]
Direction = Literal["above", "below"]


class AlertRule(Section):
    """One limit of one measure."""

    metric: Metric
    """response_time: mean milliseconds of runs that ended ok. error_rate: share of runs that failed. throughput: runs
    per second. cpu_usage, memory_usage: share of the machine."""
    direction: Direction = "above"
    """On which side of the threshold it is an alert."""
    threshold: Annotated[float, Field(ge=0)]
    """The limit, in the unit of the metric."""
    window_s: Annotated[float, Field(ge=5, le=86_400)] = 60.0
    """Time that is looked back at."""
    min_count: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """response_time, error_rate: fewer runs than this in the window raise no alert."""
    cooldown_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    """After an alert was raised, the same rule raises none for this long."""


class AlertsConfig(Section):
    """When somebody is told: in the logs, as events, and over a webhook. Needs `monitoring.event_log`."""

    enabled: bool = True
    """Watch the runs and the machine."""
    response_time: Annotated[float, Field(gt=0)] | None = 5000.0
    """Alert when the mean response takes longer than so many milliseconds; null: never."""
    error_rate: Annotated[float, Field(ge=0, lt=1)] | None = 0.05
    """Alert when a larger share of the runs fails; null: never."""
    throughput: Annotated[float, Field(gt=0)] | None = None
    """Alert when fewer runs than this end per second; unset: never."""
    memory_usage: Annotated[float, Field(gt=0, lt=1)] | None = 0.8
    """Alert when a larger share of the machine's memory is in use; null: never."""
    window_s: Annotated[float, Field(ge=5, le=86_400)] = 60.0
    """Of these four: the time that is looked back at."""
    min_count: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Of these four: fewer runs in the window raise no alert about response_time and error_rate."""
    cooldown_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    """Of these four: time after an alert in which the same one is not raised again."""
    rules: list[AlertRule] = []
    """Further limits."""
    webhook: Annotated[str, Field(max_length=2048, json_schema_extra={"writeOnly": True})] | None = None
    """URL that every alert is sent to as JSON, when it is raised and when it is over. Must be https and public;
    `security.callback_hosts` makes exceptions. Write it as `"${NAME}"` where it holds a secret."""

    @property
    def all_rules(self) -> list[AlertRule]:
        """The four of their own keys, as far as they are on, and the further ones."""
        return [*self._named(), *self.rules]

    def _named(self) -> Iterator[AlertRule]:
        limits: tuple[tuple[Metric, Direction, float | None], ...] = (
            ("response_time", "above", self.response_time),
            ("error_rate", "above", self.error_rate),
            ("throughput", "below", self.throughput),
            ("memory_usage", "above", self.memory_usage),
        )
        for metric, direction, threshold in limits:
            if threshold is not None:
                yield AlertRule(
                    metric=metric,
                    direction=direction,
                    threshold=threshold,
                    window_s=self.window_s,
                    min_count=self.min_count,
                    cooldown_s=self.cooldown_s,
                )

    @model_validator(mode="after")
    def _distinct(self) -> AlertsConfig:
        """Two equal rules would be one alert that is told twice."""
        named = len(list(self._named()))
        seen: set[tuple[str, str, float, float]] = set()
        problems = []
        for i, rule in enumerate(self.all_rules):
            key = (rule.metric, rule.direction, rule.threshold, rule.window_s)
            if key in seen:
                got = f"{rule.metric} {rule.direction} {rule.threshold:g} again"
                problems.append(Mismatch(f"rules.{i - named}", "a limit that no other rule has", got))
            seen.add(key)
        if problems:
            raise ReferenceProblems(problems)
        return self
