"""A model that judges answers: strictly asked, strictly read, never waited for too long, and replaceable."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, USAGE, HeldModel

from rayflow.actors.aggregator import Aggregator
from rayflow.actors.judge import MAX_CHARS, Judge
from rayflow.chat import Usage
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import AggregationConfig
from rayflow.errors import ConfigurationError, ExecutionError, ModelError, Unavailable
from rayflow.messages import Joined, JoinParts, Part
from rayflow.runtime.ports import ModelClient

SHOP = Part("shop", "Refunds take 30 days. Ask for one on the orders page, which has a button for refunds.")
BILLING = Part("billing", "Refunds take 14 days.")


class Bench:
    """An aggregator with a judge on a fabric."""

    def __init__(self, text: str, limit_s: float, **config: Any) -> None:
        self.model = HeldModel(text)
        self.built = 0
        self.fault: Exception | None = None
        self.fabric = InProcessFabric()
        settings = AggregationConfig.model_validate({"strategy": "best_response", **config})
        self.aggregator = Aggregator(settings, Judge(self._build, limit_s, SYSTEM_CLOCK))
        self.fabric.bind("aggregator/0", self.aggregator.handlers)

    def _build(self) -> ModelClient:
        self.built += 1
        if self.fault:
            raise self.fault
        return self.model

    async def join(self, *parts: Part, timeout_s: float = PATIENCE_S) -> Joined:
        question = JoinParts("run_1", "How long do refunds take, and where do I ask for one?", list(parts))
        joined: Joined = await self.fabric.ask("aggregator/0", question, timeout_s)
        return joined


@asynccontextmanager
async def bench(text: str = "", limit_s: float = PATIENCE_S, **config: Any) -> AsyncIterator[Bench]:
    found = Bench(text, limit_s, **config)
    yield found
    await found.aggregator.stop()
    assert found.model.closed == bool(found.built and not found.fault)


async def test_the_judge_decides_who_is_accurate_and_its_tokens_are_counted() -> None:
    async with bench('{"accuracy": [0.1, 1]}') as b:
        joined = await b.join(SHOP, BILLING)
        assert joined.metadata["scores"]["shop"]["accuracy"] == 0.1
        assert joined.metadata["scores"]["billing"]["accuracy"] == 1
        assert joined.metadata["accuracy_by"] == "judge"
        assert joined.usage == USAGE


async def test_the_judge_is_given_the_question_and_the_answers_as_data() -> None:
    async with bench('{"accuracy": [1, 1]}') as b:
        await b.join(SHOP, Part("long", "x" * (2 * MAX_CHARS)))
        [asked] = b.model.requests
        assert [message.role for message in asked.messages] == ["system", "user"]
        case = json.loads(asked.messages[1].text)
        assert case["question"].startswith("How long")
        assert case["answers"] == [SHOP.text, "x" * MAX_CHARS]
        assert asked.params.temperature == 0


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "The first is right.",
        '{"accuracy": [1]}',
        '{"accuracy": [1, 2]}',
        '{"accuracy": [1, "1"]}',
        '{"accuracy": [1, 1], "because": "so"}',
        '```json\n{"accuracy": [1, 1]}\n```',
    ],
)
async def test_a_verdict_of_any_other_form_is_none(reply: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with bench(reply) as b:
            joined = await b.join(SHOP, BILLING)
    assert joined.metadata["accuracy_by"] == "agreement"
    assert joined.metadata["scores"]["billing"]["accuracy"] == 0
    assert joined.usage == Usage()
    assert "no verdict of the judge" in caplog.text


async def test_a_judge_that_fails_is_asked_again_the_next_time() -> None:
    async with bench('{"accuracy": [0.3, 1]}') as b:
        b.model.errors = [ModelError("down")]
        assert (await b.join(SHOP, BILLING)).metadata["accuracy_by"] == "agreement"
        assert (await b.join(SHOP, BILLING)).metadata["accuracy_by"] == "judge"
        assert b.built == 1


async def test_a_judge_that_takes_too_long_is_not_waited_for() -> None:
    async with bench(limit_s=0.02) as b:
        b.model.released.clear()
        assert (await b.join(SHOP, BILLING)).metadata["accuracy_by"] == "agreement"
        assert b.model.cancelled == 1


async def test_the_deadline_of_the_run_leaves_time_for_an_answer_without_the_judge() -> None:
    async with bench() as b:
        b.model.released.clear()
        joined = await b.join(SHOP, BILLING, timeout_s=0.3)
        assert joined.metadata["accuracy_by"] == "agreement"


async def test_a_judge_that_cannot_be_made_is_no_obstacle() -> None:
    async with bench() as b:
        b.fault = ConfigurationError("models.judge.api_key: the openai provider needs a key")
        assert (await b.join(SHOP, BILLING)).metadata["accuracy_by"] == "agreement"


async def test_one_answer_needs_no_judge() -> None:
    async with bench() as b:
        await b.join(SHOP, Part("down", error="down"))
        assert (b.built, b.model.requests) == (0, [])


async def test_an_aggregator_that_drains_finishes_what_it_has() -> None:
    async with bench('{"accuracy": [0.3, 1]}') as b:
        b.model.released.clear()
        joining = asyncio.create_task(b.join(SHOP, BILLING))
        await b.model.busy()
        draining = asyncio.create_task(b.aggregator.drain(PATIENCE_S))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await b.join(SHOP, BILLING)
        b.model.released.set()
        assert (await joining).metadata["accuracy_by"] == "judge"
        assert await draining == []


async def test_no_answer_at_all_is_an_error_without_a_judge() -> None:
    async with bench() as b:
        with pytest.raises(ExecutionError, match="no agent answered"):
            await b.join(Part("down", error="down"))
