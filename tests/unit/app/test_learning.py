"""Training in a process of its own: once for the same material, again for a damaged file, and not at all without the
extra."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support.messages_to_route import THINGS, material, messages

from rayflow.app import learning
from rayflow.app.learning import artefacts_folder, routing_means, train_in, trained
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError
from rayflow.models.classifier.artefact import load, path_of
from rayflow.models.openai_endpoint import OpenAIEndpoint

needs_extra = pytest.mark.skipif(find_spec("sklearn") is None, reason="the extra `intelligent` is not installed")


def workflow(
    state: Path, strategy: str = "intelligent", agent: Mapping[str, Any] = MappingProxyType({}), **sections: Any
) -> WorkflowConfig:
    texts = messages(8, seed=1)
    agents = [{"name": name, "examples": [t for t, label in texts if label == name], **agent} for name in THINGS]
    return WorkflowConfig.model_validate(
        {
            "name": "team",
            "agents": agents,
            "routing": {"strategy": strategy},
            "storage": {"state": str(state)},
            **sections,
        }
    )


@needs_extra
async def test_a_child_process_trains_and_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    training = asyncio.create_task(trained(material(), tmp_path))
    turns = 0
    while not training.done():
        turns += 1
        await asyncio.sleep(0.01)
    assert (await training).labels == list(THINGS)
    assert turns > 10


@needs_extra
async def test_the_same_material_is_trained_once_even_by_two_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await asyncio.gather(trained(material(), tmp_path), trained(material(), tmp_path))
    assert first == second
    monkeypatch.setattr(learning, "spawn", None)
    assert await trained(material(), tmp_path) == first, "what is there needs no process"


@needs_extra
def test_who_waited_for_its_turn_does_not_train_again(tmp_path: Path) -> None:
    train_in(tmp_path, material())
    written = path_of(tmp_path, material().key).stat().st_mtime_ns
    train_in(tmp_path, material())
    assert path_of(tmp_path, material().key).stat().st_mtime_ns == written


@needs_extra
async def test_a_damaged_artefact_is_trained_again(tmp_path: Path) -> None:
    whole = await trained(material(), tmp_path)
    path = path_of(tmp_path, material().key)
    path.write_bytes(path.read_bytes()[:-100])
    assert (await trained(material(), tmp_path)).rows == whole.rows
    assert load(tmp_path, material().key) is not None


@needs_extra
async def test_a_workflow_s_agents_are_scored_with_what_was_learnt(tmp_path: Path) -> None:
    config = workflow(tmp_path)
    means = routing_means(config)
    assert means.scorer is not None
    scores = (await means.scorer()).score(config.agents[2].examples[0])
    assert max(scores) == scores[2]
    assert len(list(artefacts_folder(config).glob("*.classifier"))) == 1


def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "find_spec", lambda name: None)


def test_without_the_extra_the_message_says_which_one_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_extra(monkeypatch)
    with pytest.raises(ConfigurationError, match=r"pip install 'rayflow\[intelligent\]'"):
        routing_means(workflow(tmp_path))


@needs_extra
async def test_what_was_learnt_elsewhere_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = workflow(tmp_path)
    before = routing_means(config)
    assert before.scorer is not None
    await before.scorer()
    without_extra(monkeypatch)
    after = routing_means(config)
    assert after.scorer is not None
    assert len((await after.scorer()).score("x")) == len(THINGS)


async def test_semantic_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_extra(monkeypatch)
    means = routing_means(workflow(tmp_path, "semantic"))
    assert means.scorer is not None
    assert len((await means.scorer()).score("x")) == len(THINGS)


@pytest.mark.parametrize("strategy", ["intelligent", "semantic"])
def test_an_agent_without_examples_is_refused_at_the_start(tmp_path: Path, strategy: str) -> None:
    with pytest.raises(ConfigurationError, match=r"agent 'billing' has none"):
        routing_means(workflow(tmp_path, strategy, agent={"examples": []}))


def test_what_keeps_routers_from_starting_is_found_before_they_start(tmp_path: Path) -> None:
    learning.check(workflow(tmp_path, "keyword"))
    with pytest.raises(ConfigurationError, match="has none"):
        learning.check(workflow(tmp_path, "semantic", agent={"examples": []}))
    (tmp_path / "mine.py").touch()
    with pytest.raises(ConfigurationError, match="has no 'decide'"):
        learning.check(workflow(tmp_path, f"{tmp_path}/mine.py:decide"))


async def test_llm_is_given_the_configured_model_and_other_strategies_nothing(tmp_path: Path) -> None:
    endpoint = {"name": "gpt", "provider": "openai", "base_url": "http://127.0.0.1:1/v1"}
    config = workflow(tmp_path, "llm", models=[endpoint], routing={"strategy": "llm", "model": "gpt"})
    make = routing_means(config).model
    assert make is not None
    model = make()
    assert isinstance(model, OpenAIEndpoint)
    await model.close()
    assert routing_means(workflow(tmp_path, "keyword")) == learning.RoutingMeans()


def test_the_offline_model_is_not_asked_to_choose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert routing_means(workflow(tmp_path, "llm")) == learning.RoutingMeans()
    assert "is no language model and cannot choose" in caplog.text
