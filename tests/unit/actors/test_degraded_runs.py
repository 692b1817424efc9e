"""A router whose agents have all failed answers with the configured message."""

from __future__ import annotations

import pytest
from actor_doubles import HeldModel, config, team

from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ExecutionError, ModelRejected

SORRY = "We are sorry: please call us."


def both(**resilience: str) -> WorkflowConfig:
    return config(
        routing={"strategy": "keyword", "rules": [{"keywords": ["both"], "target_agents": ["a", "b"]}]},
        resilience=resilience,
    )


@pytest.mark.parametrize("text", ["both", "one alone"])
async def test_when_everybody_has_failed_the_message_is_the_answer(text: str) -> None:
    async with team(both(degraded_message=SORRY), model=HeldModel) as t:
        for model in t.models.values():
            model.errors = [ModelRejected("bad key")]
        result = await t.run(text)
        assert (result.content, result.metadata["degraded"]) == (SORRY, True)


async def test_what_came_is_the_answer_as_long_as_something_came() -> None:
    async with team(both(degraded_message=SORRY), model=HeldModel) as t:
        t.models["a"].errors = [ModelRejected("bad key")]
        result = await t.run("both")
        assert SORRY not in result.content
        assert result.agents == ["b"]


async def test_without_a_message_the_run_fails() -> None:
    async with team(both(), model=HeldModel) as t:
        for model in t.models.values():
            model.errors = [ModelRejected("bad key")]
        with pytest.raises(ExecutionError, match="no agent answered"):
            await t.run("both")
