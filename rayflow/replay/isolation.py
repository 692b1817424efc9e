"""A workflow as a replay runs it: everything that decides, and nothing that lies outside of it.

What was refused, kept, remembered or told at the time was so because of what else went on then, which is not here. So
there are no limits, caches, memories, alerts or spans; sessions are in memory; and the event log goes into the replay's
own folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from rayflow.config.schema import (
    AdmissionConfig,
    AlertsConfig,
    CachesConfig,
    EmbeddingsConfig,
    LimitsConfig,
    MemoryConfig,
    ModelConfig,
    SessionConfig,
    StorageConfig,
    WorkflowConfig,
)
from rayflow.config.sections.base import Section

Models = Literal["recorded", "live", "offline"]

PATIENCE_S = 3600.0
"""Longest wait for a busy agent: a replay has time."""
EVENTS = 1_000_000
"""Kept in memory while the disk takes them: a replay may be faster than any traffic."""

S = TypeVar("S", bound=Section)


def isolated(config: WorkflowConfig, models: Models, out: Path) -> WorkflowConfig:
    """`out`: the folder of the replay."""
    outside = {
        "storage": StorageConfig(state=str(out), events=str(out / "events")),
        "session": SessionConfig(store="memory", max_memory_sessions=1_000_000),
        "caches": CachesConfig(),
        "memory": MemoryConfig(),
        "alerts": AlertsConfig(enabled=False),
        "limits": LimitsConfig(),
        "tenants": [_with(tenant, limit=None, api_keys=[]) for tenant in config.tenants],
        "admission": AdmissionConfig(strategy="bounded", max_wait_s=PATIENCE_S),
        "processing": _with(config.processing, routers=1, multitask_strategy="enqueue"),
        "context": _with(config.context, cached_sessions=0),  # the store is changed behind the router's back
        "monitoring": _with(
            config.monitoring,
            event_log=True,
            otel=_with(config.monitoring.otel, enabled=False),
            retention_days=0.0,
            flush_s=0.2,
            max_buffered_events=EVENTS,
        ),
    }
    own = config.model_copy(update=outside)
    return own if models == "live" else _without_endpoints(own)


def _without_endpoints(config: WorkflowConfig) -> WorkflowConfig:
    """Nobody is called: neither models and judges, nor who makes vectors. What fails fails as recorded, so nothing is
    tried again, and no failure keeps a model from the runs after it."""
    resilience = config.resilience
    return config.model_copy(
        update={
            "models": [_offline(model) for model in config.models],
            "embeddings": EmbeddingsConfig(),
            "context": _with(config.context, summary_model=None),
            "aggregation": _with(config.aggregation, judge_model=None),
            "resilience": _with(
                resilience,
                breaker=_with(resilience.breaker, enabled=False),
                hedging=_with(resilience.hedging, enabled=False),
            ),
        }
    )


def _offline(model: ModelConfig) -> ModelConfig:
    """The same name at the same price."""
    once = _with(model.retries, max_attempts=1)
    return _with(model, provider="offline", base_url=None, api_key=None, headers={}, retries=once)


def _with(section: S, **values: object) -> S:
    return section.model_copy(update=values)
