"""Which replica of an agent takes a call, and which is left alone for a while."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rayflow.config.sections.base import Own, Section

Balancing = Literal[
    "least_busy", "round_robin", "random", "power_of_two", "fastest_response", "prequal", "session_affinity", "weighted"
]


class EjectionConfig(Section):
    """A replica that fails fast looks idle, and would draw every call. It is taken out of rotation instead, and comes
    back by way of single probes."""

    enabled: bool = True
    """Take failing replicas out of rotation."""
    consecutive_failures: Annotated[int, Field(ge=1, le=1000)] = 3
    """So many failures in a row take a replica out. Less than `resilience.breaker.consecutive_failures`: a replica that
    fails draws calls, and would open the breaker of its model for all others."""
    failure_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """This share of failures within `window_s` takes a replica out, too."""
    min_calls: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Fewest calls within `window_s` for a rate to count."""
    window_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """How far back failures count."""
    base_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """How long a replica stays out the first time; it doubles each time it fails again."""
    max_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Longest time out of rotation."""
    max_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Never more than this share of a pool is out."""


class BalancingConfig(Section):
    """Which replica of an agent takes a call. The strategies: docs/policies.md."""

    strategy: Balancing | Own = "fastest_response"
    """A strategy's name, or a policy of your own as FILE.py:NAME."""
    decay_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """fastest_response, prequal: time after which an observation counts only 1/e, and a replica that was slow is tried
    again after two or three of these."""
    hot_quantile: Annotated[float, Field(ge=0, le=1)] = 0.84
    """prequal: a replica with more calls in flight than this quantile of the pool is hot, and taken only if all are."""
    balance_factor: Annotated[float, Field(ge=1, le=10)] = 1.25
    """session_affinity: a session goes elsewhere while its replica has this many times the mean load."""
    weights: Annotated[list[Annotated[float, Field(gt=0, le=1000)]], Field(max_length=256)] = []
    """weighted: the share of replica n is entry n modulo the length; empty: all alike."""
    options: dict[str, Any] = {}
    """Options of a policy of your own."""
    ejection: EjectionConfig = EjectionConfig()
    """Failing replicas."""
