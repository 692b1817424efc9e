"""A run whose conversation nobody will go on with: no session is read, and none is written."""

from __future__ import annotations

import asyncio

import pytest
from actor_doubles import PATIENCE_S, HeldModel, config, team

from rayflow.chat import Message
from rayflow.errors import ModelRejected, NotFound
from rayflow.messages import RunRequest


async def test_a_stateless_run_is_answered_and_leaves_no_session() -> None:
    async with team() as t:
        result = await t.run("hello", stateless=True)
        assert (result.content, result.agents, result.turn) == ("done", ["a"], 0)
        with pytest.raises(NotFound):
            await t.turns()
        assert len(t.router._turns.sessions) == 0


async def test_its_trail_tells_of_no_turn_that_was_committed() -> None:
    async with team() as t:
        result = await t.run("hello", stateless=True)
        kinds = [event.kind for event in await t.trail(result.run_id)]
        assert kinds == ["run.started", "run.routed", "agent.started", "agent.finished", "run.finished"]


async def test_the_model_sees_just_the_messages_that_were_sent() -> None:
    async with team(config(context={"window": 2})) as t:
        await t.run("before")
        said = [Message("user", "one"), Message("assistant", "two"), Message("user", "three")]
        request = RunRequest("run_1", "sess_1", said, tenant="t", stateless=True)
        await t.fabric.ask("router/0", request, PATIENCE_S)
        assert [message.content for message in t.models["a"].requests[-1].messages] == ["one", "two", "three"]
        assert await t.turns() == [("user", "before"), ("assistant", "done")]


async def test_stateless_runs_wait_for_nobody_even_under_one_session_id() -> None:
    model = HeldModel(held=True)
    async with team(model=lambda _: model) as t:
        runs = [t.start("hello", stateless=True) for _ in range(3)]
        await model.busy(3)
        model.released.set()
        assert [result.content for result in await asyncio.gather(*runs)] == ["done"] * 3


async def test_a_stateless_run_that_fails_or_is_cancelled_leaves_nothing_either() -> None:
    model = HeldModel(held=True)
    model.errors = [ModelRejected("no")]
    async with team(model=lambda _: model) as t:
        with pytest.raises(ModelRejected):
            await t.run("hello", stateless=True)
        run = t.start("hello", stateless=True)
        await model.busy()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        with pytest.raises(NotFound):
            await t.turns()
        assert not t.router._runs and len(t.router._turns.sessions) == 0
