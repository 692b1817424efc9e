"""What a workflow file may say of telemetry."""

from __future__ import annotations

from typing import Any

import pytest

from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.config.show import show
from rayflow.config.transfer import dump, restore
from rayflow.errors import ConfigurationError


def workflow(otel: dict[str, Any], **monitoring: Any) -> WorkflowConfig:
    return from_dict({"name": "team", "agents": [{"name": "a"}], "monitoring": {"otel": otel, **monitoring}})


def test_nothing_is_exported_unless_it_is_asked_for() -> None:
    assert not workflow({}).monitoring.otel.enabled


@pytest.mark.parametrize("url", ["http://collector:4318", "https://otel.example.org/team/"])
def test_the_endpoint_is_a_url(url: str) -> None:
    assert workflow({"endpoint": url}).monitoring.otel.endpoint == url


@pytest.mark.parametrize("url", ["collector:4318", "grpc://collector:4317", "http://collector/?key=1"])
def test_what_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"monitoring.otel.endpoint: .* http://collector:4318"):
        workflow({"endpoint": url})


def test_headers_are_secrets_that_reach_the_process_that_sends_them() -> None:
    config = workflow({"enabled": True, "headers": {"x-key": "very-secret"}})
    assert "very-secret" not in show(config)
    assert restore(dump(config)).monitoring.otel.headers["x-key"].get_secret_value() == "very-secret"


def test_an_export_needs_a_log() -> None:
    with pytest.raises(ConfigurationError, match=r"otel.enabled: expected false without monitoring.event_log"):
        workflow({"enabled": True}, event_log=False)
