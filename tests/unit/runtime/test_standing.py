"""How urgent a run is."""

from __future__ import annotations

from typing import Any

from rayflow.chat import Message
from rayflow.config.schema import WorkflowConfig
from rayflow.messages import RunRequest
from rayflow.runtime.standing import Standing


def standing(**sections: Any) -> Standing:
    tenants = [{"name": "gold", "tier": "premium"}, {"name": "plain"}]
    config = {"name": "w", "agents": [{"name": "a"}], "tenants": tenants, **sections}
    return Standing(WorkflowConfig.model_validate(config))


def run(session: str = "s", **facts: Any) -> RunRequest:
    return RunRequest("r", session, [Message("user", "x")], **facts)


def test_the_tier_of_a_tenant_wins_over_what_the_request_says() -> None:
    found = standing()
    assert found.level(run(tenant="gold", user_tier="free"), 0.0) == found.level(run(user_tier="premium"), 0.0)
    assert found.level(run(tenant="plain", user_tier="premium"), 0.0) == found.level(run(user_tier="premium"), 0.0)


def test_a_session_that_had_a_turn_of_late_goes_before_one_that_had_none() -> None:
    found = standing()
    found.had_turn(("", "s"), 100.0)
    assert found.level(run(), 159.0) > found.level(run("other"), 159.0)
    assert found.level(run(), 160.0) == found.level(run("other"), 160.0)
    assert found.level(run(tenant="gold"), 110.0) == found.level(run("other", tenant="gold"), 110.0)


def test_sessions_without_a_recent_turn_are_forgotten() -> None:
    found = standing()
    for i in range(1000):
        found.had_turn(("", f"s{i}"), float(i))
    assert len(found) <= 61


def test_where_it_makes_no_difference_nothing_is_remembered() -> None:
    for priority in ({"enabled": False}, {"active_session": 0.0}):
        found = standing(priority=priority)
        found.had_turn(("", "s"), 0.0)
        assert len(found) == 0
