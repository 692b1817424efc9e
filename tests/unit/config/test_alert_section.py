"""Alert rules from their short keys and from the list."""

from __future__ import annotations

from typing import Any

import pytest

from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError


def config(security: dict[str, Any] | None = None, **alerts: Any) -> WorkflowConfig:
    return from_dict({"name": "w", "agents": [{"name": "a"}], "alerts": alerts, "security": security or {}})


def rules(**alerts: Any) -> list[tuple[str, str, float]]:
    return [(rule.metric, rule.direction, rule.threshold) for rule in config(**alerts).alerts.all_rules]


def test_the_defaults_watch_time_errors_and_memory() -> None:
    assert rules() == [
        ("response_time", "above", 5000.0),
        ("error_rate", "above", 0.05),
        ("memory_usage", "above", 0.8),
    ]


def test_throughput_is_watched_once_it_is_set_and_null_switches_off() -> None:
    given = {"throughput": 10.0, "response_time": None, "error_rate": None, "memory_usage": None}
    assert rules(**given) == [("throughput", "below", 10.0)]


def test_further_rules_follow_with_windows_of_their_own() -> None:
    further = {"metric": "cpu_usage", "threshold": 0.9, "window_s": 300.0}
    last = config(rules=[further], window_s=30.0).alerts.all_rules[-1]
    assert (last.metric, last.window_s) == ("cpu_usage", 300.0)
    assert {rule.window_s for rule in config(rules=[further], window_s=30.0).alerts.all_rules[:-1]} == {30.0}


def test_a_limit_that_is_there_already_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigurationError, match=r"alerts\.rules\.0"):
        config(rules=[{"metric": "error_rate", "threshold": 0.05}])


def test_a_webhook_that_will_never_be_told_is_refused_without_its_secret() -> None:
    with pytest.raises(ConfigurationError, match=r"alerts\.webhook") as refused:
        config(webhook="http://hooks.corp/SECRET")
    assert "SECRET" not in refused.value.message
    assert config({"callback_hosts": ["http://hooks.corp"]}, webhook="http://hooks.corp/SECRET").alerts.webhook


@pytest.mark.parametrize("host", ["hooks.corp", "hooks.corp:8443", "http://127.0.0.1:9000", "[fd12::1]:8443"])
def test_hosts_for_callbacks_are_hosts(host: str) -> None:
    assert config(security={"callback_hosts": [host]}).security.callback_hosts == [host]


@pytest.mark.parametrize("host", ["https://hooks.corp", "hooks.corp/path", "a b", "*", ""])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="callback_hosts"):
        config(security={"callback_hosts": [host]})
