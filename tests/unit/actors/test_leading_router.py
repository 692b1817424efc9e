"""A router that streams the leading answer of several agents."""

from __future__ import annotations

import pytest
from actor_doubles import HeldModel, config, team

from rayflow.errors import ModelRejected
from rayflow.messages import Token

LEADING = config(
    routing={"strategy": "keyword", "rules": [{"keywords": ["both"], "target_agents": ["a", "b"]}]},
    aggregation={"strategy": "intelligent_merge"},
    streaming={"flush_s": 0.0, "max_chars": 1},
)


@pytest.mark.parametrize("progress", [False, True])
async def test_only_the_leading_agent_is_streamed_and_the_answer_begins_with_its_words(progress: bool) -> None:
    async with team(LEADING, model=lambda name: HeldModel(f"I-am-the-agent-{name}.")) as t:
        result = await t.run("both", client="client/0", stream=True, progress=progress)
        assert {token.agent for token in t.heard if isinstance(token, Token)} == {"a"}
        assert result.content.startswith("I-am-the-agent-a.\n\n**b**: ")
        assert (result.streamed, result.agents) == ("a", ["a", "b"])


@pytest.mark.parametrize("progress", [False, True])
async def test_a_leading_agent_that_fails_before_its_first_token_is_left_out(progress: bool) -> None:
    async with team(LEADING, model=lambda name: HeldModel(f"I-am-the-agent-{name}.")) as t:
        t.models["a"].errors = [ModelRejected("bad key")]
        result = await t.run("both", client="client/0", stream=True, progress=progress)
        assert (result.content, result.streamed, result.agents) == ("I-am-the-agent-b.", "", ["b"])
