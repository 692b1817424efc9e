"""A run that is asked for again is still one run: one call of the model, one question and one answer in the session."""

from __future__ import annotations

import asyncio
import gc

import pytest
from actor_doubles import PATIENCE_S, HeldModel, request, settle, team

from rayflow.chat import FunctionCall, Message, ToolCall, Usage
from rayflow.errors import Cancelled, Conflict, KeyReused, ModelRejected
from rayflow.messages import Appended, AppendTurns, CancelRun, Turn
from rayflow.messages.runs import ATTEMPT_NUMBERS
from rayflow.stores.memory import MemoryStore

AGAIN = {"run_id": "run_1", "repeatable": True}


async def test_a_repetition_waits_for_the_run_under_way() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        runs = [t.start("x", **AGAIN) for _ in range(3)]
        await t.models["a"].busy()
        await settle()
        t.models["a"].released.set()
        first, *others = await asyncio.wait_for(asyncio.gather(*runs), PATIENCE_S)
        assert [first, first] == others
        assert len(t.models["a"].requests) == 1
        assert await t.turns() == [("user", "x"), ("assistant", "done")]


async def test_a_repetition_hears_of_the_failure_of_the_run_it_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        t.models["a"].errors = [ModelRejected("bad key")]
        outcomes = await asyncio.gather(*(t.start("x", **AGAIN) for _ in range(2)), return_exceptions=True)
        assert all(isinstance(outcome, ModelRejected) for outcome in outcomes)
        gc.collect()
        assert not caplog.records, "nor is it taken for an error that nobody heard of"
        t.models["a"].released.set()
        assert (await t.run("x", **AGAIN)).content == "done"
        assert await t.turns() == [("user", "x"), ("assistant", "done")]


async def test_the_first_asker_may_leave_and_the_run_goes_on_for_the_others() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        first, second = t.start("x", **AGAIN), t.start("x", **AGAIN)
        await t.models["a"].busy()
        await settle()
        first.cancel()
        await settle()
        assert t.models["a"].cancelled == 0
        t.models["a"].released.set()
        assert (await asyncio.wait_for(second, PATIENCE_S)).content == "done"


async def test_when_the_last_asker_leaves_the_run_stops() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        runs = [t.start("x", **AGAIN) for _ in range(2)]
        await t.models["a"].busy()
        await settle()
        for run in runs:
            run.cancel()
        await t.models["a"].busy(0)
        await settle()
        assert t.models["a"].cancelled == 1
        assert not t.router._runs
        assert (await t.trail("run_1"))[-1].status == "cancelled"


async def test_a_run_that_is_left_before_it_began_leaves_nothing() -> None:
    async with team() as t:
        handler = asyncio.create_task(t.router._run(request(**AGAIN)))
        await asyncio.sleep(0)
        handler.cancel()
        await asyncio.gather(handler, return_exceptions=True)
        await settle()
        assert not t.router._runs
        assert (await t.run(**AGAIN)).content == "done"


async def test_all_who_wait_hear_that_somebody_else_stopped_the_run() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        runs = [t.start("x", **AGAIN) for _ in range(2)]
        await t.models["a"].busy()
        await settle()
        t.fabric.tell("router/0", CancelRun("run_1", "enough", "t"))
        outcomes = await asyncio.wait_for(asyncio.gather(*runs, return_exceptions=True), PATIENCE_S)
        assert [str(outcome) for outcome in outcomes] == ["the run was cancelled: enough"] * 2


async def test_a_run_that_is_stopped_before_its_first_step_is_stopped() -> None:
    async with team() as t:
        run = t.start("x", **AGAIN)
        while "run_1" not in t.router._runs:
            await asyncio.sleep(0)
        t.router._runs["run_1"].stop("enough")
        with pytest.raises(Cancelled, match="enough"):
            await asyncio.wait_for(run, PATIENCE_S)
        assert not t.models["a"].requests
        assert not t.router._runs


@pytest.mark.parametrize("other", [{"text": "y"}, {"text": "x", "agent": "b"}, {"text": "x", "system_prompt": "z"}])
async def test_a_repetition_that_asks_for_something_else_is_refused(other: dict[str, str]) -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        run = t.start("x", **AGAIN)
        await t.models["a"].busy()
        with pytest.raises(KeyReused) as caught:
            await t.run(**{**AGAIN, **other})
        assert caught.value.details["param"] == "idempotency-key"
        t.models["a"].released.set()
        await run


async def test_a_repetition_of_a_finished_run_gets_the_answer_of_the_session() -> None:
    async with team() as t:
        first = await t.run("x", **AGAIN)
        await t.run("more")
        again = await t.run("x", **AGAIN)
        assert (again.content, again.turn, again.agents) == (first.content, first.turn, first.agents)
        assert (again.usage, again.metadata) == (first.usage, {"repeated": True})
        assert len(t.models["a"].requests) == 2
        assert len(await t.turns()) == 4
        last = (await t.trail("run_1"))[-1]
        assert (last.kind, last.status) == ("run.repeated", "ok")
        assert last.completion_tokens == 0 < first.usage.completion_tokens
        assert (await t.run("and more")).turn == 6


async def test_a_run_whose_question_is_durable_already_is_answered_without_writing_it_again() -> None:
    async with team() as t:
        asked = AppendTurns("t", "sess_1", [Message("user", "x")], run_id="run_1")
        await t.fabric.ask("session/0", asked, PATIENCE_S)
        assert (await t.run("x", run_id="run_1", attempt=1)).content == "done"
        assert await t.turns() == [("user", "x"), ("assistant", "done")]


async def test_a_client_that_lost_its_connection_joins_its_run() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        run = t.start("x", run_id="run_1")
        await t.models["a"].busy()
        with pytest.raises(Conflict):
            await t.run("x", run_id="run_1")
        again = t.start("x", run_id="run_1", attempt=1)
        await settle()
        t.models["a"].released.set()
        assert await again == await run
        assert len(t.models["a"].requests) == 1


async def test_events_of_a_second_attempt_have_numbers_of_their_own() -> None:
    async with team() as t:
        result = await t.run("x", run_id="run_1", attempt=1)
        trail = await t.trail("run_1")
        assert [event.seq for event in trail] == list(range(ATTEMPT_NUMBERS + 1, ATTEMPT_NUMBERS + 8))
        assert result.last_seq == ATTEMPT_NUMBERS + 7


async def test_of_two_answers_the_stored_one_stands() -> None:
    call = ToolCall("c1", FunctionCall("f", "{}"))
    theirs = Turn(2, Message("assistant", None, tool_calls=[call]), "run_1", "b")

    class Faster(MemoryStore):
        """Another router has answered meanwhile."""

        async def append(self, request: AppendTurns, now_us: int) -> Appended:
            if request.messages[0].role == "assistant":
                return Appended(2, answer=theirs)
            return await super().append(request, now_us)

    async with team(store=Faster(10)) as t:
        result = await t.run("x")
        assert (result.content, result.tool_calls, result.finish_reason) == ("", [call], "tool_calls")
        assert (result.agents, result.turn, result.metadata) == (["b"], 2, {"repeated": True})
        assert result.usage == Usage(3, 2), "the model was asked all the same"
