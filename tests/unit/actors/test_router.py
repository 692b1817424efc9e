"""A run on its way through the router: in order within its session, durable before it is answered, and gone when it is
cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, HeldModel, bind_agent, config, settle, team

from rayflow.chat import FunctionCall, Message, ToolCall
from rayflow.errors import (
    Cancelled,
    Conflict,
    ContentRejected,
    DeadlineExceeded,
    ExecutionError,
    ModelError,
    ModelRejected,
    NotFound,
    Overloaded,
    StorageError,
    Unavailable,
)
from rayflow.messages import Appended, AppendTurns, CancelRun, DeleteSession, Progress, RunRequest, Token
from rayflow.stores.memory import MemoryStore

BOTH = {"rules": [{"keywords": ["both"], "target_agents": ["a", "b"]}]}


async def cancelled(run: asyncio.Task[Any]) -> None:
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_a_run_is_answered_and_both_turns_are_durable_by_then() -> None:
    async with team() as t:
        result = await t.run("hello")
        assert (result.content, result.agents, result.turn) == ("done", ["a"], 2)
        assert await t.turns() == [("user", "hello"), ("assistant", "done")]


async def test_the_trail_of_a_run_is_complete_and_numbered() -> None:
    async with team() as t:
        result = await t.run("hello")
        trail = await t.trail(result.run_id)
        assert [event.kind for event in trail] == [
            "run.started", "turn.committed", "run.routed", "agent.started", "agent.finished", "turn.committed",
            "run.finished",
        ]  # fmt: skip
        assert [event.seq for event in trail] == list(range(1, 8))
        assert trail[-1].status == "ok"
        assert result.last_seq == 7


async def test_the_model_sees_earlier_turns_up_to_the_window() -> None:
    async with team(config(context={"window": 3})) as t:
        for text in ("one", "two", "three"):
            await t.run(text)
        seen = [message.content for message in t.models["a"].requests[-1].messages]
        assert seen == ["done", "two", "done", "three"]


async def test_without_enrichment_the_model_sees_only_what_is_new() -> None:
    async with team(config(context={"enrichment": False})) as t:
        await t.run("one")
        await t.run("two")
        assert [message.content for message in t.models["a"].requests[-1].messages] == ["two"]


async def test_a_router_that_knows_nothing_reads_the_window_from_the_store() -> None:
    async with team(config(context={"cached_sessions": 0})) as t:
        await t.run("one")
        await t.run("two")
        assert [message.content for message in t.models["a"].requests[-1].messages] == ["one", "done", "two"]


async def test_two_runs_of_one_session_never_interleave() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        runs = [t.start(str(i)) for i in range(5)]
        await t.models["a"].busy()
        await settle()
        t.models["a"].released.set()
        await asyncio.gather(*runs)
        assert t.models["a"].most == 1
        assert await t.turns() == [turn for i in range(5) for turn in (("user", str(i)), ("assistant", "done"))]


async def test_runs_of_different_sessions_do_run_side_by_side() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        runs = [t.start("x", f"sess_{i}") for i in range(5)]
        await t.models["a"].busy(5)
        t.models["a"].released.set()
        await asyncio.gather(*runs)


async def test_a_session_with_too_long_a_line_is_overloaded() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        runs = [t.start(str(i)) for i in range(65)]
        await t.models["a"].busy()
        await settle()
        with pytest.raises(Overloaded) as caught:
            await t.run("one too many")
        assert caught.value.retry_after_s == 1
        t.models["a"].released.set()
        await asyncio.gather(*runs)


async def test_a_cancelled_run_frees_its_replica_and_its_session() -> None:
    limited = config({"name": "a", "replicas": {"max_in_flight": 1}})
    async with team(limited, model=lambda _: HeldModel(held=True)) as t:
        first = t.start("first", run_id="run_1")
        await t.models["a"].busy()
        next_in_session, next_in_pool = t.start("second"), t.start("other", "sess_2")
        await settle()
        await cancelled(first)
        await t.models["a"].busy()
        assert t.models["a"].cancelled == 1
        t.models["a"].released.set()
        await asyncio.wait_for(asyncio.gather(next_in_session, next_in_pool), PATIENCE_S)
        last = (await t.trail("run_1"))[-1]
        assert (last.kind, last.status) == ("run.finished", "cancelled")


async def test_a_waiting_run_that_is_cancelled_is_passed_over() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        first, second, third = (t.start(text) for text in ("first", "second", "third"))
        await t.models["a"].busy()
        await settle()
        await cancelled(second)
        t.models["a"].released.set()
        await asyncio.wait_for(asyncio.gather(first, third), PATIENCE_S)
        assert [text for role, text in await t.turns() if role == "user"] == ["first", "third"]


async def test_a_run_cancelled_at_the_very_moment_of_its_turn_does_not_keep_the_session() -> None:
    """Its cancellation and the end of the run before it come in one turn of the loop."""
    async with team(model=lambda _: HeldModel(held=True)) as t:
        first = t.start("first")
        await t.models["a"].busy()
        second = t.start("second", run_id="run_2")
        await settle()
        third = t.start("third")
        await settle()
        waiting = t.router._runs["run_2"]
        leave = t.router._turns.sessions.leave

        def leave_while_cancelling(key: tuple[str, str]) -> str | None:
            waiting._cancel()
            return leave(key)

        t.router._turns.sessions.leave = leave_while_cancelling  # type: ignore[method-assign]
        t.models["a"].released.set()
        await asyncio.wait_for(asyncio.gather(first, third, second, return_exceptions=True), PATIENCE_S)
        assert [text for role, text in await t.turns() if role == "user"] == ["first", "third"]


async def test_whoever_waits_for_a_run_that_another_stops_hears_of_it() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        run = t.start("x", run_id="run_1")
        await t.models["a"].busy()
        t.fabric.tell("router/0", CancelRun("run_1", "client disconnected", "t"))
        with pytest.raises(Cancelled, match="client disconnected"):
            await asyncio.wait_for(run, PATIENCE_S)
        last = (await t.trail("run_1"))[-1]
        assert (last.status, last.error_message) == ("cancelled", "client disconnected")


async def test_cancelling_an_unknown_run_changes_nothing() -> None:
    async with team() as t:
        t.fabric.tell("router/0", CancelRun("run_none", "enough"))
        assert (await t.run()).content == "done"


async def test_cancelling_a_run_of_several_agents_cancels_every_part() -> None:
    async with team(config(routing=BOTH), model=lambda _: HeldModel(held=True)) as t:
        run = t.start("both")
        await asyncio.gather(t.models["a"].busy(), t.models["b"].busy())
        await cancelled(run)
        await asyncio.gather(t.models["a"].busy(0), t.models["b"].busy(0))
        assert (t.models["a"].cancelled, t.models["b"].cancelled) == (1, 1)


async def test_when_somebody_else_wrote_the_session_is_read_again() -> None:
    async with team() as t:
        await t.run("one")
        theirs = AppendTurns("t", "sess_1", [Message("user", "theirs"), Message("assistant", "answer")], run_id="other")
        appended: Appended = await t.fabric.ask("session/0", theirs, PATIENCE_S)
        assert appended.last_seq == 4
        await t.run("two")
        seen = [message.content for message in t.models["a"].requests[-1].messages]
        assert seen == ["one", "done", "theirs", "answer", "two"]
        assert [text for _, text in await t.turns()] == ["one", "done", "theirs", "answer", "two", "done"]


async def test_a_deleted_session_begins_anew() -> None:
    async with team() as t:
        await t.run("one")
        await t.fabric.ask("session/0", DeleteSession("t", "sess_1"), PATIENCE_S)
        await t.run("two")
        assert [message.content for message in t.models["a"].requests[-1].messages] == ["two"]


async def test_a_session_deleted_during_a_run_does_not_come_back() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        run = t.start("one")
        await t.models["a"].busy()
        await t.fabric.ask("session/0", DeleteSession("t", "sess_1"), PATIENCE_S)
        t.models["a"].released.set()
        await asyncio.gather(run, return_exceptions=True)
        with pytest.raises(NotFound):
            await t.turns()


async def test_an_answer_is_kept_when_the_session_opens_with_a_whole_conversation() -> None:
    async with team() as t:
        opening = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
        run = RunRequest("run_1", "sess_1", opening, tenant="t")
        assert (await t.fabric.ask("router/0", run, PATIENCE_S)).turn == 4
        assert [text for _, text in await t.turns()] == ["a", "b", "c", "done"]


async def test_a_window_never_begins_with_the_result_of_a_tool_call_it_does_not_show() -> None:
    async with team(config(context={"window": 2})) as t:
        call = ToolCall("c1", FunctionCall("f", "{}"))
        opening = [
            Message("user", "a"),
            Message("assistant", None, tool_calls=[call]),
            Message("tool", "42", tool_call_id="c1"),
        ]
        await t.fabric.ask("router/0", RunRequest("run_1", "sess_1", opening, tenant="t"), PATIENCE_S)
        await t.run("next")
        assert [message.role for message in t.models["a"].requests[-1].messages] == ["assistant", "user"]


async def test_a_full_pool_with_a_full_line_is_overloaded() -> None:
    limited = config({"name": "a", "replicas": {"max_in_flight": 1}}, processing={"max_queue": 1})
    async with team(limited, model=lambda _: HeldModel(held=True)) as t:
        runs = [t.start("x", f"sess_{i}") for i in range(2)]
        await t.models["a"].busy()
        await settle()
        with pytest.raises(Overloaded) as caught:
            await t.run("x", "sess_9")
        assert caught.value.retry_after_s == 1
        t.models["a"].released.set()
        await asyncio.gather(*runs)


async def test_an_agent_without_replicas_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.actors.pools.EMPTY_POOL_S", 0.01)
    async with team(replicas=False) as t:
        with pytest.raises(Unavailable, match="agent a has no replica") as caught:
            await t.run()
        assert caught.value.retry_after_s


async def test_a_run_waits_a_moment_for_the_first_replica() -> None:
    async with team(replicas=False) as t:
        run = t.start()
        await settle()
        bind_agent(t, "a")
        assert (await run).content == "done"


async def test_an_agent_named_by_the_client_is_asked_whatever_is_said() -> None:
    async with team() as t:
        assert (await t.run(agent="b")).agents == ["b"]
        with pytest.raises(NotFound):
            await t.run(agent="nobody")


async def test_a_failed_run_says_why_and_the_next_one_works() -> None:
    async with team() as t:
        t.models["a"].errors = [ModelRejected("bad key", model="a")]
        with pytest.raises(ModelRejected, match="bad key"):
            await t.run("one", run_id="run_1")
        trail = await t.trail("run_1")
        assert [(event.kind, event.error) for event in trail[-2:]] == [
            ("agent.finished", "model-rejected"),
            ("run.finished", "model-rejected"),
        ]
        assert (await t.run("two")).content == "done"
        assert [text for _, text in await t.turns()] == ["one", "two", "done"]


async def test_the_parts_of_several_agents_are_joined() -> None:
    async with team(config(routing=BOTH), model=lambda name: HeldModel(f"I am {name}.")) as t:
        result = await t.run("both")
        assert result.content == "**a**: I am a.\n\n**b**: I am b."
        assert (result.agents, result.streamed) == (["a", "b"], "")
        assert result.usage.total_tokens == 10
        assert await t.turns() == [("user", "both"), ("assistant", result.content)]


async def test_an_agent_that_fails_leaves_the_answers_of_the_others() -> None:
    async with team(config(routing=BOTH)) as t:
        t.models["b"].errors = [ModelRejected("bad key")]
        result = await t.run("both")
        assert (result.content, result.agents) == ("done", ["a"])
        assert result.metadata["failed"] == {"b": "bad key"}
        assert [(part.agent, part.status) for part in result.parts] == [("a", "ok"), ("b", "error")]


async def test_when_all_agents_fail_the_run_fails() -> None:
    async with team(config(routing=BOTH)) as t:
        t.models["a"].errors, t.models["b"].errors = [ModelRejected("x")], [ModelRejected("y")]
        with pytest.raises(ExecutionError, match="a: x; b: y"):
            await t.run("both")


async def test_tokens_are_numbered_between_the_start_and_the_end_of_the_part() -> None:
    async with team(
        model=lambda _: HeldModel("one two three"), configuration=config(streaming={"flush_s": 0.0, "max_chars": 1})
    ) as t:
        result = await t.run("x", client="client/0", stream=True)
        tokens = [message for message in t.heard if isinstance(message, Token)]
        assert [token.text for token in tokens] == ["one", "two", "three"]
        trail = await t.trail(result.run_id)
        assert sorted([event.seq for event in trail] + [token.seq for token in tokens]) == list(range(1, 11))


@pytest.mark.parametrize("failing", [False, True])
async def test_no_number_is_used_twice_when_several_agents_stream(failing: bool) -> None:
    settings = config(routing=BOTH, streaming={"flush_s": 0.0, "max_chars": 1})
    async with team(settings, model=lambda name: HeldModel("one two three" * (2 if name == "a" else 1))) as t:
        if failing:
            t.models["b"].errors = [ModelRejected("x")]
        result = await t.run("both", client="client/0", stream=True, progress=True)
        tokens = [message.seq for message in t.heard if isinstance(message, Token)]
        shown = [message.event.seq for message in t.heard if isinstance(message, Progress)]
        trail = [event.seq for event in await t.trail(result.run_id)]
        assert len(tokens) >= 5
        assert set(shown) < set(trail)
        assert len(set(tokens) | set(trail)) == len(tokens) + len(trail)
        assert max(trail) > max(tokens)


async def test_progress_is_told_only_to_those_who_ask() -> None:
    async with team() as t:
        await t.run("x", client="client/0", stream=True)
        assert not [message for message in t.heard if isinstance(message, Progress)]
        await t.run("x", client="client/0", stream=True, progress=True)
        kinds = [message.event.kind for message in t.heard if isinstance(message, Progress)]
        assert kinds == ["run.routed", "agent.started", "agent.finished"]


@pytest.mark.parametrize("text", ["", "x" * 11])
async def test_a_message_of_a_length_that_is_not_allowed_is_refused_and_not_stored(text: str) -> None:
    async with team(config(processing={"max_length": 10})) as t:
        with pytest.raises(ContentRejected):
            await t.run(text)
        with pytest.raises(NotFound):
            await t.turns()


async def test_a_run_that_takes_too_long_is_recorded_as_such() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        with pytest.raises(DeadlineExceeded):
            await t.run("x", timeout_s=0.1, run_id="run_1")
        await settle()
        last = (await t.trail("run_1"))[-1]
        assert last.kind == "run.finished"
        assert t.models["a"].calls == 0


async def test_when_the_store_fails_the_run_fails_and_the_session_is_free() -> None:
    class Failing(MemoryStore):
        broken = True

        async def append(self, request: AppendTurns, now_us: int) -> Appended:
            if self.broken:
                raise StorageError("disk gone")
            return await super().append(request, now_us)

    store = Failing(10)
    async with team(store=store) as t:
        with pytest.raises(StorageError):
            await t.run()
        store.broken = False
        assert (await t.run()).turn == 2


async def test_one_run_id_cannot_run_twice_at_once() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        first = t.start("x", run_id="run_1")
        await t.models["a"].busy()
        with pytest.raises(Conflict, match="run_1"):
            await t.run("x", "sess_2", timeout_s=0.1, run_id="run_1")
        t.models["a"].released.set()
        assert (await first).content == "done"


async def test_a_draining_router_finishes_its_runs_and_takes_no_more() -> None:
    async with team(model=lambda _: HeldModel(held=True)) as t:
        run = t.start("x", run_id="run_1")
        await t.models["a"].busy()
        assert await t.router.drain(0.01) == ["run_1"]
        with pytest.raises(Unavailable, match="draining"):
            await t.run()
        t.models["a"].released.set()
        await run
        assert await t.router.drain(PATIENCE_S) == []


async def test_retries_are_the_agents_affair_and_unseen_by_the_client() -> None:
    retries = {"max_attempts": 3, "base_delay_s": 0.0, "max_delay_s": 0.0}
    team_config = config({"name": "a"}, models=[{"name": "offline", "retries": retries}])
    async with team(team_config) as t:
        t.models["a"].errors = [ModelError("busy"), ModelError("busy")]
        assert (await t.run()).content == "done"
        assert len(t.models["a"].requests) == 3


async def test_sessions_of_tenants_do_not_meet() -> None:
    async with team() as t:
        await t.run("one")
        other = RunRequest("run_2", "sess_1", [Message("user", "two")], tenant="other")
        await t.fabric.ask("router/0", other, PATIENCE_S)
        assert [message.content for message in t.models["a"].requests[-1].messages] == ["two"]
