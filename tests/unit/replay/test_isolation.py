"""What of a workflow a replay does not have: all that lies outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump, restore
from rayflow.replay.isolation import Models, isolated
from rayflow.runtime.limits import needs_accounts

OUTSIDE: dict[str, Any] = {
    "name": "team",
    "agents": [{"name": "a", "model": "far"}],
    "models": [
        {"name": "far", "provider": "openai", "base_url": "https://models.example.org/v1", "api_key": "sk-1",
         "price_prompt": 3.0}
    ],
    "routing": {"strategy": "llm", "model": "far"},
    "aggregation": {"judge_model": "far"},
    "embeddings": {"model": "far"},
    "context": {"summary_model": "far"},
    "memory": {"enabled": True, "extraction_model": "far"},
    "caches": {"results": {"enabled": True}},
    "limits": {"workflow": {"requests": 1}, "user": {"max_cost": 0.01}},
    "tenants": [{"name": "acme", "api_keys": ["key-1"], "limit": {"max_tokens": 1}}],
    "session": {"store": "redis", "dsn": "redis://sessions.example.org/0", "expire": True},
    "alerts": {"webhook": "https://alerts.example.org/"},
    "storage": {"state": "state", "cold_events": "s3://bucket/events"},
}  # fmt: skip


@pytest.mark.parametrize("models", ["recorded", "live", "offline"])
def test_nothing_outside_is_written_to_limited_or_told(models: Models, tmp_path: Path) -> None:
    own = isolated(from_dict(OUTSIDE), models, tmp_path)
    assert restore(dump(own)) == own, "it is a whole configuration"
    assert own.session.store == "memory" and own.session.dsn is None and not own.session.expire
    assert not (own.memory.enabled or own.caches.results.enabled or own.alerts.enabled or own.monitoring.otel.enabled)
    assert own.alerts.webhook is None and own.storage.cold_events is None
    assert not needs_accounts(own) and not own.keyed
    assert {own.storage.state, own.storage.events} == {str(tmp_path), str(tmp_path / "events")}


@pytest.mark.parametrize("models", ["recorded", "offline"])
def test_nobody_is_called_unless_that_is_asked_for(models: Models, tmp_path: Path) -> None:
    own = isolated(from_dict(OUTSIDE), models, tmp_path)
    assert [(entry.provider, entry.base_url, entry.api_key) for entry in own.models] == [("offline", None, None)]
    assert own.models[0].price_prompt == 3.0
    assert not own.embeddings.enabled
    assert own.aggregation.judge_model is own.context.summary_model is None


def test_a_live_replay_calls_what_the_workflow_names(tmp_path: Path) -> None:
    config: WorkflowConfig = from_dict(OUTSIDE)
    own = isolated(config, "live", tmp_path)
    assert (own.models, own.aggregation, own.embeddings) == (config.models, config.aggregation, config.embeddings)
    assert own.routing == config.routing and own.resilience == config.resilience
