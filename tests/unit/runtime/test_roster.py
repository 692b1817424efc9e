"""The configuration as child specs."""

from __future__ import annotations

from typing import Any

from rayflow.config.schema import WorkflowConfig
from rayflow.runtime.roster import FEEDER, ROLES, agent_address, node_address, pool_prefix, roster


def addresses(**sections: Any) -> list[str]:
    given: dict[str, Any] = {"name": "team", "agents": [{"name": "a", "replicas": {"min": 2}}, {"name": "b"}]}
    return [spec.address for spec in roster(WorkflowConfig.model_validate({**given, **sections}))]


def test_every_actor_has_a_spec_in_start_order() -> None:
    assert addresses() == [
        "eventlog/0", "session/0", "aggregator/0", "agent/a/0", "agent/a/1", "agent/b/0", "router/0",
    ]  # fmt: skip


def test_shards_and_routers_are_as_many_as_configured() -> None:
    found = addresses(session={"shards": 3}, processing={"routers": 2})
    assert [a for a in found if a.startswith("session/")] == ["session/0", "session/1", "session/2"]
    assert found[-2:] == ["router/0", "router/1"]


def test_without_an_event_log_there_is_no_actor_for_it() -> None:
    assert "eventlog/0" not in addresses(monitoring={"event_log": False})


def test_phases_never_go_back_and_addresses_are_unique() -> None:
    config = WorkflowConfig.model_validate({"name": "t", "agents": [{"name": "a"}], "session": {"shards": 4}})
    specs = roster(config)
    phases = [spec.group.phase for spec in specs]
    assert phases == sorted(phases)
    assert len({spec.address for spec in specs}) == len(specs)


def test_a_pool_is_found_by_its_prefix_and_not_by_that_of_another() -> None:
    assert agent_address("a", 3).startswith(pool_prefix("a"))
    assert not agent_address("ab", 3).startswith(pool_prefix("a"))


def test_each_pool_is_a_group_of_its_own_and_allows_more_deaths_the_larger_it_is() -> None:
    given = {"name": "team", "agents": [{"name": "a", "replicas": {"min": 3}}, {"name": "b"}]}
    groups = {spec.group.name: spec.group for spec in roster(WorkflowConfig.model_validate(given))}
    assert list(groups) == ["eventlog", "session", "aggregator", "agent/a", "agent/b", "router"]
    assert (groups["agent/a"].policy.of(3).intensity, groups["agent/b"].policy.of(1).intensity) == (7, 5)


def test_only_writers_of_files_are_not_handed_over() -> None:
    limits = {"workflow": {"max_requests": 100}}
    specs = roster(WorkflowConfig.model_validate({"name": "t", "agents": [{"name": "a"}], "limits": limits}))
    assert {spec.role for spec in specs} == ROLES - {FEEDER}
    assert {spec.role for spec in specs if not spec.handover} == {"eventlog", "session", "accounts"}


def test_books_are_kept_only_where_something_is_limited() -> None:
    assert "accounts/0" not in addresses()
    assert "accounts/0" in addresses(limits={"user": {"requests": 5}})


def test_spares_are_replicas_beyond_the_smallest_pool() -> None:
    found = addresses(agents=[{"name": "a", "replicas": {"min": 0, "spares": 2}}])
    assert [a for a in found if a.startswith("agent/")] == ["agent/a/0", "agent/a/1"]


def test_pools_that_were_scaled_keep_their_addresses() -> None:
    config = WorkflowConfig.model_validate({"name": "t", "agents": [{"name": "a"}, {"name": "b"}]})
    found = [spec.address for spec in roster(config, 1, {"b": ["agent/b/0", "agent/b/3"]}) if spec.role == "agent"]
    assert found == ["agent/a/0", "agent/b/0", "agent/b/3"]


def test_two_incarnations_of_an_address_are_two_processes() -> None:
    assert node_address("agent/a/0", 1) != node_address("agent/a/0", 2)
