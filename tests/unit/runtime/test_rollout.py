"""What a new configuration changes, and for whom."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError
from rayflow.runtime.rollout import FIXED, LIVE, READS, check, plan
from rayflow.runtime.roster import ROLES, roster

TEAM = [{"name": "a", "model": "m"}, {"name": "b", "replicas": {"min": 2}}]
MODELS = [{"name": "m"}, {"name": "n"}]


def config(**sections: Any) -> WorkflowConfig:
    return WorkflowConfig.model_validate({"name": "team", "agents": TEAM, "models": MODELS, **sections})


def touched(after: WorkflowConfig, before: WorkflowConfig | None = None) -> tuple[list[str], list[str], list[str]]:
    """Addresses: replaced, added, removed."""
    before = before or config()
    todo = plan(roster(before, 1), {1: before, 2: after}, 2)
    assert {spec.generation for spec in (*todo.kept, *todo.replaced, *todo.added)} == {2}
    assert todo.idle == (not (todo.replaced or todo.added or todo.removed))
    replaced, added, removed = ([s.address for s in specs] for specs in (todo.replaced, todo.added, todo.removed))
    return replaced, added, removed


B = ["agent/b/0", "agent/b/1"]
ROUTER = ["router/0"]
EVERYBODY = [spec.address for spec in roster(config())]


@pytest.mark.parametrize(
    ("sections", "replaced"),
    [
        ({}, []),
        ({"description": "another"}, []),
        ({"security": {"max_body_bytes": 2048}}, []),
        ({"processing": {"drain_s": 1.0}}, []),
        ({"processing": {"max_queue": 5}}, ROUTER),
        ({"processing": {"request_timeout_s": 9.0}}, ["agent/a/0", *B, *ROUTER]),
        ({"routing": {"strategy": "round_robin"}}, ROUTER),
        ({"context": {"window": 3}}, ROUTER),
        ({"embeddings": {"model": "m"}}, ROUTER),
        ({"caches": {"results": {"enabled": True}}}, ["session/0", *ROUTER]),
        ({"memory": {"enabled": True}}, ["session/0", *ROUTER]),
        ({"state": {"fields": [{"name": "step", "type": "string"}]}}, ROUTER),
        ({"aggregation": {"strategy": "best_response"}}, ["aggregator/0", *ROUTER]),
        ({"balancing": {"strategy": "random"}}, ROUTER),
        ({"scaling": {"strategy": "manual"}}, []),
        ({"agents": [TEAM[0], {**TEAM[1], "examples": ["hello"]}]}, ROUTER),
        ({"agents": [TEAM[0], {**TEAM[1], "scaling": {"strategy": "manual"}}]}, []),
        ({"models": [{"name": "m", "price_cached_prompt": 2.0}, MODELS[1]]}, ROUTER),
        ({"models": [MODELS[0], {"name": "n", "price_prompt": 2.0}]}, []),
        ({"models": [{"name": "m", "provider": "openai"}, MODELS[1]]}, ["agent/a/0", *ROUTER]),
        ({"monitoring": {"capture": "full"}}, ROUTER),
        ({"streaming": {"flush_s": 0.5}}, ["agent/a/0", *B]),
        ({"session": {"synchronous": "NORMAL"}}, ["session/0"]),
        ({"monitoring": {"flush_s": 2.0}}, ["eventlog/0"]),
        ({"monitoring": {"log_level": "debug"}}, EVERYBODY),
        ({"agents": [TEAM[0], {**TEAM[1], "goal": "more"}]}, [*B, *ROUTER]),
        ({"models": [{"name": "m", "retries": {"max_attempts": 1}}, MODELS[1]]}, ["agent/a/0"]),
        ({"models": [MODELS[0], {"name": "n", "model": "unused"}]}, []),
    ],
)
def test_only_who_is_built_from_what_changed_is_replaced(sections: dict[str, Any], replaced: list[str]) -> None:
    assert touched(config(**sections)) == (replaced, [], [])


def test_another_number_of_replicas_touches_none_of_those_that_stay() -> None:
    fewer = config(agents=[TEAM[0], {"name": "b", "replicas": {"min": 1}}])
    assert touched(fewer) == ([], [], ["agent/b/1"])
    assert touched(config(), fewer) == ([], ["agent/b/1"], [])


def test_what_goes_goes_last_first() -> None:
    after = config(agents=[TEAM[0]], monitoring={"event_log": False})
    replaced, _, removed = touched(after, config(processing={"routers": 2}))
    assert removed == ["router/1", "agent/b/0", "agent/b/1", "eventlog/0"]
    assert replaced == ["session/0", "router/0"]


def test_each_child_is_compared_by_the_configuration_it_was_built_from() -> None:
    """A rollout that was cut short goes on where it stood."""
    before, after = config(), config(agents=[{**TEAM[0], "goal": "more"}, TEAM[1]])
    running = [*roster(before, 1)[:3], roster(after, 2)[3], *roster(before, 1)[4:]]
    todo = plan(running, {1: before, 2: after}, 2)
    assert [spec.address for spec in todo.replaced] == ["router/0"]
    assert "agent/a/0" in [spec.address for spec in todo.kept]


def test_what_only_a_restart_can_change_is_refused_by_name() -> None:
    after = config(name="other", storage={"state": "s"}, session={"shards": 2, "store": "memory"})
    with pytest.raises(ConfigurationError) as caught:
        check(config(), after)
    assert caught.value.details["keys"][:4] == ["name", "session.store", "session.shards", "storage.state"]
    check(config(), config(routing={"strategy": "round_robin"}))


def test_sessions_in_memory_would_be_lost_with_their_store() -> None:
    before = config(session={"store": "memory"})
    with pytest.raises(ConfigurationError, match=r"monitoring\.log_level"):
        check(before, config(session={"store": "memory"}, monitoring={"log_level": "debug"}))
    check(before, config(session={"store": "memory"}, routing={"strategy": "round_robin"}))


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            found += keys(nested, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def test_every_key_of_the_configuration_is_somebodys_business() -> None:
    claimed = {*FIXED, *LIVE, *(path for paths in READS.values() for path in paths)}
    orphans = [key for key in keys(WorkflowConfig) if not any(key == c or key.startswith(c + ".") for c in claimed)]
    assert orphans == [], "say in rollout.py who is built from these, or that only a restart can change them"


def test_every_role_says_what_it_reads() -> None:
    assert READS.keys() == ROLES


def test_a_model_whose_answers_or_vectors_routers_keep_concerns_them() -> None:
    other = [{"name": "m", "knowledge": "other.txt"}, MODELS[1]]
    assert touched(config(models=other))[0] == ["agent/a/0"]
    for section in ({"caches": {"results": {"enabled": True}}}, {"embeddings": {"model": "m"}}):
        assert touched(config(models=other, **section), config(**section))[0] == ["agent/a/0", *ROUTER]
