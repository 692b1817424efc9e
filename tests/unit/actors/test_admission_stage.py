"""A router's side of limits and budgets: what is reserved, what is settled, and what happens without the accounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from actor_doubles import config, request

from rayflow.actors import admission, persistence
from rayflow.actors.accounts import ADDRESS
from rayflow.actors.admission import Admission
from rayflow.actors.work import Work
from rayflow.chat import Message, ModelParams, Usage
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import ModelConfig, WorkflowConfig
from rayflow.errors import BudgetExceeded, RateLimited, Unavailable
from rayflow.messages import Ack, AgentReply, Reserve, Reserved, Settle, Spent
from rayflow.policies.prices import entry_of
from rayflow.runtime.part import PartState
from rayflow.runtime.run import Run

TEAM = (
    {"name": "a", "model": "cheap", "max_tokens": 100},
    {"name": "b", "model": "dear", "max_tokens": 50},
)
PRICED: dict[str, Any] = {
    "models": [
        {"name": "cheap", "price_prompt": 1.0, "price_completion": 2.0},
        {"name": "dear", "price_prompt": 10.0, "price_completion": 40.0},
    ],
    "limits": {"workflow": {"max_cost": 1.0}, "tokens_estimate": 2000},
}


@dataclass
class Scene:
    admission: Admission
    fabric: InProcessFabric
    asked: list[Reserve | Settle] = field(default_factory=list)
    refusal: Exception | None = None

    def answer(self, message: Reserve | Settle) -> Reserved | Ack:
        self.asked.append(message)
        if self.refusal is not None and isinstance(message, Reserve):
            raise self.refusal
        return Reserved() if isinstance(message, Reserve) else Ack()

    async def admit(self, work: Work) -> None:
        if (step := self.admission.admit(work)) is not None:
            await step

    async def routed(self, work: Work) -> None:
        if (step := self.admission.routed(work)) is not None:
            await step

    async def settled(self, work: Work) -> Settle:
        self.admission.ended(work)
        await self.admission.settled()
        last = self.asked[-1]
        assert isinstance(last, Settle)
        return last


@asynccontextmanager
async def scene(configuration: WorkflowConfig | None = None, *, accounts: bool = True) -> AsyncIterator[Scene]:
    configuration = configuration or config(*TEAM, **PRICED)
    fabric = InProcessFabric()
    made = Scene(Admission(configuration, fabric, SYSTEM_CLOCK), fabric)
    if accounts:
        fabric.bind(ADDRESS, {Reserve: made.answer, Settle: made.answer})
    yield made


def work(text: str = "x" * 40, **facts: Any) -> Work:
    made = Work(Run(request(text, **facts), "team", "router/0", 0.0))
    made.context = list(made.request.messages)
    return made


def begun(made: Work, *agents: str) -> list[PartState]:
    made.run.parts = [PartState(agent) for agent in agents]
    for part in made.run.parts:
        part.replica = f"agent/{part.agent}/0"
    return made.run.parts


def reply(usage: Usage) -> AgentReply:
    return AgentReply("done", "stop", usage, "m", 1.0)


async def test_where_nothing_is_limited_nobody_is_asked() -> None:
    async with scene(config(tenants=[{"name": "other", "limit": {"requests": 1}}])) as s:
        assert s.admission.admit(work()) is None
        assert s.admission.routed(work()) is None
        s.admission.ended(work())
        assert s.asked == []


async def test_before_routing_the_dearest_agent_is_reserved_for() -> None:
    async with scene() as s:
        await s.admit(work("x" * 41, run_id="run_1", user_id="ann"))
        assert s.asked == [Reserve("run_1", "t", "ann", 11 + 100, (11 * 10 + 50 * 40) / 1e6)]


async def test_the_length_that_the_client_allows_is_what_an_answer_may_have() -> None:
    async with scene() as s:
        await s.admit(work(agent="a", params=ModelParams(max_tokens=7)))
        await s.admit(work(agent="a", params=ModelParams(max_tokens=7, max_completion_tokens=9)))
        assert [message.tokens for message in s.asked] == [10 + 7, 10 + 9]
    async with scene(config({"name": "a"}, limits=PRICED["limits"])) as s:
        await s.admit(work())
        assert s.asked[0].tokens == 10 + 2000


async def test_when_several_agents_answer_or_there_is_a_past_more_is_reserved() -> None:
    async with scene() as s:
        made = work()
        await s.admit(made)
        begun(made, "a", "b")
        await s.routed(made)
        assert s.asked[-1].tokens == (10 + 100) + (10 + 50)
        made.context = [Message("user", "y" * 400), *made.context]
        await s.routed(made)
        assert s.asked[-1].tokens == (110 + 100) + (110 + 50)
        count = len(s.asked)
        await s.routed(made)
        assert len(s.asked) == count


async def test_real_usage_is_settled_at_the_price_of_each_model() -> None:
    async with scene() as s:
        made = work(run_id="run_1")
        await s.admit(made)
        first, second = begun(made, "a", "b")
        first.reply, second.reply = reply(Usage(10, 20)), reply(Usage(30, 5))
        settled = await s.settled(made)
        assert (settled.run_id, settled.tokens, settled.void) == ("run_1", 65, False)
        assert settled.cost == pytest.approx((10 * 1 + 20 * 2 + 30 * 10 + 5 * 40) / 1e6)


async def test_a_model_that_stood_in_is_settled_at_its_own_price() -> None:
    async with scene() as s:
        made = work(run_id="run_1")
        await s.admit(made)
        (part,) = begun(made, "a")
        s.admission.spent(Spent("run_1", "a", Usage(10, 1)))
        s.admission.spent(Spent("run_1", "a", Usage(10, 2), model="dear"))
        part.called = entry_of(ModelConfig(name="dear", price_prompt=10.0, price_completion=40.0))
        part.reply = reply(Usage(10, 20))
        settled = await s.settled(made)
        assert settled.cost == pytest.approx((10 * 1 + 1 * 2 + 10 * 10 + 2 * 40 + 10 * 10 + 20 * 40) / 1e6)


async def test_what_an_agent_had_used_that_another_one_stood_in_for_counts_too() -> None:
    async with scene() as s:
        made = work(run_id="run_1")
        await s.admit(made)
        (part,) = begun(made, "a")
        s.admission.spent(Spent("run_1", "a", Usage(10, 1)))
        part.agent = "b"
        part.reply = reply(Usage(10, 20))
        settled = await s.settled(made)
        assert (settled.tokens, settled.cost) == (41, pytest.approx((10 * 1 + 1 * 2 + 10 * 10 + 20 * 40) / 1e6))


async def test_a_run_of_which_nothing_began_is_void() -> None:
    async with scene() as s:
        made = work()
        await s.admit(made)
        assert (await s.settled(made)).void


async def test_a_stream_that_was_cut_short_settles_what_its_replica_had_used() -> None:
    async with scene() as s:
        made = work(run_id="run_1")
        await s.admit(made)
        begun(made, "a")
        s.admission.ended(made)
        await asyncio.sleep(0)
        assert isinstance(s.asked[-1], Reserve)
        s.admission.spent(Spent("run_1", "a", Usage(10, 3)))
        await s.admission.settled()
        assert s.asked[-1] == Settle("run_1", 13, (10 * 1 + 3 * 2) / 1e6)


async def test_failed_attempts_count_beside_the_one_that_was_answered() -> None:
    async with scene() as s:
        made = work(run_id="run_1")
        await s.admit(made)
        (part,) = begun(made, "a")
        s.admission.spent(Spent("run_1", "a", Usage(10, 1)))
        s.admission.spent(Spent("run_1", "a", Usage(10, 2)))
        part.reply = reply(Usage(10, 20))
        assert (await s.settled(made)).tokens == 53


async def test_where_nobody_says_what_was_used_the_estimate_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "SPENT_S", 0.001)
    async with scene() as s:
        made = work()
        await s.admit(made)
        begun(made, "a")
        assert (await s.settled(made)).tokens == 10 + 100


async def test_what_replicas_say_of_runs_that_are_settled_is_not_kept() -> None:
    async with scene() as s:
        s.admission.spent(Spent("run_of_yesterday", "a", Usage(1, 1)))
        made = work()
        await s.admit(made)
        await s.settled(made)
        assert s.admission._held == {}


async def test_a_refusal_reserves_nothing_and_settles_nothing() -> None:
    async with scene() as s:
        s.refusal = BudgetExceeded("used up", retry_after_s=60.0)
        made = work()
        with pytest.raises(BudgetExceeded):
            await s.admit(made)
        s.admission.ended(made)
        await s.admission.settled()
        assert len(s.asked) == 1


async def test_a_client_that_leaves_while_it_is_asked_for_is_settled_as_void() -> None:
    async with scene() as s:
        held = asyncio.Event()

        async def never(_: Reserve) -> Reserved:
            await held.wait()
            return Reserved()

        s.fabric.bind(ADDRESS, {Reserve: never, Settle: s.answer})
        made = work()
        admitting = asyncio.create_task(s.admit(made))
        await asyncio.sleep(0.01)
        admitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await admitting
        assert (await s.settled(made)).void


async def test_without_the_accounts_no_budget_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "PATIENCE_S", 0.02)
    monkeypatch.setattr(persistence, "PAUSE_S", 0.005)
    async with scene(accounts=False) as s:
        with pytest.raises(Unavailable, match="accounts") as refused:
            await s.admit(work())
        assert refused.value.retry_after_s == 1


async def test_accounts_that_come_back_in_time_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "PAUSE_S", 0.005)
    async with scene(accounts=False) as s:
        admitting = asyncio.create_task(s.admit(work()))
        await asyncio.sleep(0.02)
        s.fabric.bind(ADDRESS, {Reserve: s.answer, Settle: s.answer})
        await admitting
        assert len(s.asked) == 1


async def test_without_the_accounts_each_router_counts_its_part_of_a_rate() -> None:
    limited = config(limits={"workflow": {"requests": 100}}, processing={"routers": 4})
    async with scene(limited, accounts=False) as s:
        admitted = 0
        for _ in range(60):
            try:
                await s.admit(work())
                admitted += 1
            except RateLimited as refused:
                assert refused.retry_after_s is not None
        assert admitted == 25


async def test_of_rates_alone_nothing_is_settled() -> None:
    async with scene(config(limits={"user": {"requests": 100}})) as s:
        made = work(run_id="run_1")
        await s.admit(made)
        begun(made, "a")
        s.admission.ended(made)
        await s.admission.settled()
        assert s.asked == [Reserve("run_1", "t")]
