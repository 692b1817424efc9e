"""Runs over a WebSocket are the runs of POST /chat: streamed, stopped, left alone, resumed; several at once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from support.whole import Call, Speaker, Whole, whole
from talks import Talk, reached, site

LEAVERS = 25
TENANTS = [{"name": "one", "api_keys": ["key-one-key-one"]}, {"name": "two", "api_keys": ["key-two-key-two"]}]


async def ended(t: Whole) -> None:
    """Wait until no run is under way."""
    await reached(lambda: not t.router._runs and not t.model.open)


async def partials(t: Whole, session: str = "s", tenant: str = "") -> list[str]:
    return [turn.message.text for turn in await t.turns(session, tenant) if turn.partial]


def key(name: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {name}"}}


async def test_a_message_is_accepted_streamed_answered_and_done() -> None:
    async with whole(Speaker(words=3)) as t, site(t.ingress()) as web, web.talk() as talk:
        await talk.say("message", message="q", session_id="s", id=7, metadata={"page": "help"})
        done = await talk.until("done")
        accepted = talk.frames[0]
        run_id = accepted["run_id"]
        assert accepted == {"type": "accepted", "id": 7, "run_id": run_id, "session_id": "s"}
        assert {frame["run_id"] for frame in talk.frames} == {run_id}
        assert [frame["content"] for frame in talk.all("token")] == ["q-0 ", "q-1 ", "q-2 "]
        assert {frame["agent"] for frame in talk.all("token")} == {"a"}
        numbers = [frame["seq"] for frame in talk.frames if "seq" in frame]
        assert numbers == sorted(numbers)
        assert [frame["event"] for frame in talk.all("progress")][-1] == "agent.finished"
        response = talk.all("response")[0]
        assert (response["content"], response["session_id"]) == ("q-0 q-1 q-2 ", "s")
        assert response["metadata"]["agents"] == ["a"]
        assert response["metadata"]["turn"] == 2
        assert (done["session_id"], done["usage"]["completion_tokens"]) == ("s", 3)
        assert [turn.message.text for turn in await t.turns("s")] == ["q", "q-0 q-1 q-2 "]


async def test_a_model_may_be_named_in_place_of_an_agent() -> None:
    async with whole(Speaker(words=1)) as t, site(t.ingress()) as web, web.talk() as talk:
        for name in ("team", "auto", "a"):
            await talk.ask(model=name)
        await talk.until("done", 3)
        await talk.say("message", message="q", model="gpt-9", id="x")
        unknown = await talk.until("error")
        assert (unknown["id"], unknown["code"], unknown["error"]["kind"]) == ("x", "not-found", "model")


async def test_a_session_goes_on_over_another_connection_and_over_http() -> None:
    async with whole(Speaker(words=1)) as t, site(t.ingress()) as web:
        for _ in range(2):
            async with web.talk() as talk:
                await talk.ask(session_id="s")
                await talk.until("done")
        await Call(t.ingress(1), "/chat", {"message": "q", "session_id": "s"}).done()
        assert [turn.message.role for turn in await t.turns("s")] == ["user", "assistant"] * 3


async def test_stopping_half_way_keeps_just_what_was_received() -> None:
    async with whole(Speaker(words=9, free=3)) as t, site(t.ingress()) as web, web.talk() as talk:
        run_id = await talk.ask(session_id="s")
        await talk.until("token", 3)
        assert t.model.open == 1
        await talk.say("stop", run_id=run_id)
        stopped = await talk.until("stopped")
        assert not t.model.open
        assert await partials(t) == [talk.text()] == ["q-0 q-1 q-2 "], "it is durable when it is told"
        assert stopped == {"type": "stopped", "run_id": run_id, "session_id": "s", "content": "q-0 q-1 q-2 "}
        last = (await t.trail(run_id))[-1]
        assert (last.kind, last.status, last.completion_tokens) == ("run.finished", "cancelled", 3)
        t.model.say(9)
        await talk.ask("next", session_id="s")
        await talk.until("done")
        assert [turn.message.text for turn in await t.turns("s")][:3] == ["q", "q-0 q-1 q-2 ", "next"]


async def test_stops_at_any_token_leave_the_same_text_on_both_sides() -> None:
    rng = random.Random(7)
    async with whole(Speaker(words=60)) as t, site(t.ingress()) as web:

        async def stop(number: int) -> None:
            async with web.talk() as talk:
                run_id = await talk.ask(session_id=f"s{number}")
                await talk.until("token", rng.randint(1, 20))
                await talk.say("stop")
                while talk.frames[-1]["type"] not in ("stopped", "done"):
                    await talk.next()
                (answer,) = [x for x in await t.turns(f"s{number}") if x.message.role == "assistant"]
                assert answer.message.text == talk.text(run_id)
                assert answer.partial == (talk.frames[-1]["type"] == "stopped")

        await asyncio.gather(*(stop(number) for number in range(LEAVERS)))
        await ended(t)


async def test_what_the_model_had_said_is_told_before_it_is_stopped() -> None:
    slow = {"flush_s": 5.0, "max_chars": 1000}
    async with whole(Speaker(words=9, free=3), streaming=slow) as t, site(t.ingress()) as web, web.talk() as talk:
        await talk.ask(session_id="s")
        await talk.until("token")
        await reached(lambda: t.model._said.locked())
        await talk.say("stop")
        stopped = await talk.until("stopped")
        assert await partials(t) == [talk.text()] == [stopped["content"]] == ["q-0 q-1 q-2 "]


async def test_stop_without_a_run_stops_all_of_this_connection_and_no_other() -> None:
    async with whole(Speaker(words=9, free=6)) as t, site(t.ingress()) as web, web.talk() as talk, web.talk() as other:
        for number in range(2):
            await talk.ask(session_id=f"s{number}")
        left = await other.ask(session_id="other")
        await reached(lambda: t.model.open == 3)
        await talk.say("stop")
        await talk.until("stopped", 2)
        assert [work.request.run_id for work in t.router._runs.values()] == [left]
        t.model.say(20)
        await other.until("done")
        await talk.say("stop", id=9)
        nothing = await talk.until("error")
        assert (nothing["id"], nothing["code"]) == (9, "not-found")


async def test_a_message_that_is_stopped_at_once_never_asks_the_model_twice() -> None:
    async with whole(Speaker(words=9, free=0)) as t, site(t.ingress()) as web, web.talk() as talk:
        await talk.say("message", message="q", session_id="s")
        await talk.say("stop")
        stopped = await talk.until("stopped")
        assert stopped["content"] == ""
        await ended(t)
        assert t.model.calls <= 1


async def test_a_message_that_waits_can_be_stopped() -> None:
    async with whole(Speaker(words=2, free=1)) as t, site(t.ingress()) as web, web.talk() as talk:
        first = await talk.ask("first", session_id="s")
        await talk.until("token")
        second = await talk.ask("second", session_id="s")
        await talk.say("stop", run_id=second)
        assert (await talk.until("stopped"))["run_id"] == second
        t.model.say(9)
        assert (await talk.until("done"))["run_id"] == first
        assert [turn.message.text for turn in await t.turns("s")] == ["first", "first-0 first-1 "]


async def test_a_run_of_another_connection_can_be_stopped_by_its_id() -> None:
    async with whole(Speaker(words=9, free=3)) as t, site(t.ingress()) as web, web.talk() as talk, web.talk() as other:
        run_id = await talk.ask(session_id="s")
        await talk.until("token", 3)
        await other.say("stop", run_id=run_id, id=1)
        assert await other.until("stopped") == {"type": "stopped", "id": 1, "run_id": run_id}
        assert (await talk.until("error"))["code"] == "cancelled", "somebody else did it"
        assert await partials(t) == [talk.text()]
        await other.say("stop", run_id=run_id)
        assert (await other.until("error"))["code"] == "not-found"


async def test_several_runs_of_one_connection_are_told_side_by_side() -> None:
    async with whole(Speaker(words=4, free=0)) as t, site(t.ingress()) as web, web.talk() as talk:
        runs = {await talk.ask(f"m{number}", session_id=f"s{number}"): f"m{number}" for number in range(4)}
        await reached(lambda: t.model.open == 4)
        t.model.say(99)
        await talk.until("done", 4)
        for run_id, message in runs.items():
            assert talk.text(run_id) == "".join(f"{message}-{i} " for i in range(4))


async def test_more_runs_than_configured_are_refused_until_one_has_ended() -> None:
    limit = {"security": {"websocket_runs": 2}}
    async with whole(Speaker(words=1, free=0), **limit) as t, site(t.ingress()) as web, web.talk() as talk:
        for number in range(2):
            await talk.ask(session_id=f"s{number}")
        await talk.say("message", message="q", id=3)
        refused = await talk.until("error")
        assert (refused["id"], refused["code"], refused["error"]["limit"]) == (3, "overloaded", 2)
        t.model.say(9)
        await talk.until("done", 2)
        await talk.ask()
        await talk.until("done", 3)


@pytest.mark.parametrize("strategy", ["reject", "interrupt"])
async def test_a_second_message_in_a_session_follows_its_strategy(strategy: str) -> None:
    async with whole(Speaker(words=3, free=1)) as t, site(t.ingress()) as web, web.talk() as talk:
        first = await talk.ask("first", session_id="s")
        await talk.until("token")
        second = await talk.ask("second", session_id="s", multitask_strategy=strategy)
        failed = await talk.until("error")
        expected = (second, "conflict") if strategy == "reject" else (first, "cancelled")
        assert (failed["run_id"], failed["code"]) == expected
        t.model.say(9)
        assert (await talk.until("done"))["run_id"] == (first if strategy == "reject" else second)


async def test_a_key_makes_a_message_one_run_here_and_over_http() -> None:
    async with whole(Speaker(words=2), tenants=TENANTS) as t, site(t.ingress()) as web:
        async with web.talk(**key("key-one-key-one")) as talk:
            first = await talk.ask(session_id="s", idempotency_key="k")
            await talk.until("done")
            second = await talk.ask(session_id="s", idempotency_key="k")
            await talk.until("done", 2)
        assert first == second
        body = {"message": "q", "session_id": "s", "stream": True}
        again = await Call(t.ingress(1), "/chat", body, idempotency_key="k", x_api_key="key-one-key-one").done()
        assert again.text == "q-0 q-1 "
        assert t.model.calls == 1


async def test_tenants_neither_see_nor_stop_nor_read_along_each_other() -> None:
    async with (
        whole(Speaker(words=2, free=1), tenants=TENANTS) as t,
        site(t.ingress()) as web,
        web.talk(**key("key-one-key-one")) as one,
        web.talk(**key("key-two-key-two")) as two,
    ):
        run_id = await one.ask("secret", session_id="s")
        await one.until("token")
        await two.say("stop", run_id=run_id)
        await two.say("resume", run_id=run_id)
        await two.until("error", 2)
        assert {frame["code"] for frame in two.frames} == {"not-found"}
        t.model.say(9)
        await one.until("done")
        await two.ask("other", session_id="s")
        await two.until("done")
        assert "secret" not in str(two.frames)
        assert [turn.message.text for turn in await t.turns("s", "one")] == ["secret", "secret-0 secret-1 "]
        assert [turn.message.text for turn in await t.turns("s", "two")] == ["other", "other-0 other-1 "]


async def test_leaving_stops_the_models_and_keeps_what_arrived() -> None:
    """A client that closes, and reads to the end, has all that was written."""
    rng = random.Random(11)
    async with whole(Speaker(words=80)) as t, site(t.ingress()) as web:

        async def leave(number: int) -> tuple[str, Talk]:
            async with web.talk() as talk:
                await talk.ask(session_id=f"s{number}")
                await talk.until("token", rng.randint(1, 20))
                closing = asyncio.create_task(talk.line.close())
                await talk.closed()
                await closing
            return f"s{number}", talk

        left = await asyncio.gather(*(leave(number) for number in range(LEAVERS)))
        await ended(t)
        for session, talk in left:
            (said,) = [turn.message.text for turn in await t.turns(session) if turn.message.role == "assistant"]
            assert said == talk.text()


async def test_a_connection_that_breaks_is_a_client_that_left() -> None:
    async with whole(Speaker(words=9, free=3)) as t, site(t.ingress()) as web:
        async with web.talk() as talk:
            await talk.ask(session_id="s")
            await talk.until("token", 3)
            talk.line.transport.abort()
        await ended(t)
        assert await partials(t) == ["q-0 q-1 q-2 "]


@pytest.mark.parametrize("configured", [True, False])
async def test_a_run_may_outlive_its_connection(configured: bool) -> None:
    given = {"processing": {"on_disconnect": "continue"}} if configured else {}
    more = {} if configured else {"on_disconnect": "continue"}
    async with whole(Speaker(words=4, free=1), **given) as t, site(t.ingress()) as web:
        async with web.talk() as talk:
            await talk.ask(session_id="s", **more)
            await talk.until("token")
        t.model.say(9)
        await ended(t)
        assert [(turn.message.text, turn.partial) for turn in await t.turns("s")] == [
            ("q", False),
            ("q-0 q-1 q-2 q-3 ", False),
        ]
        assert not t.clients[0]._streams
        assert not t.clients[0]._lasting


async def test_a_run_is_resumed_on_another_connection_of_another_process() -> None:
    stays = {"processing": {"on_disconnect": "continue"}}
    async with whole(Speaker(words=9, free=3), **stays) as t, site(t.ingress()) as web, site(t.ingress(1)) as elsewhere:
        async with web.talk() as talk:
            run_id = await talk.ask(session_id="s")
            last = await talk.until("token", 3)
        async with elsewhere.talk() as resumed:
            await resumed.say("resume", run_id=run_id, after=last["seq"])
            t.model.say(9)
            await resumed.until("done")
            told = [frame for frame in talk.frames if frame["type"] != "accepted"] + resumed.frames
            assert "".join(frame["content"] for frame in told if frame["type"] == "token") == "".join(
                f"q-{i} " for i in range(9)
            )
            await resumed.say("resume", run_id=run_id)
            await resumed.until("done", 2)
            assert resumed.frames[-len(told) :] == told, "what was cut is what nobody cut"


async def test_who_reads_along_may_leave_or_stop_the_run() -> None:
    async with whole(Speaker(words=9, free=3)) as t, site(t.ingress()) as web, web.talk() as talk:
        run_id = await talk.ask(session_id="s")
        await talk.until("token", 3)
        async with web.talk() as reader:
            await reader.say("resume", run_id=run_id)
            await reader.until("token", 3)
        await reached(lambda: not t.clients[0]._followed)
        assert t.model.open == 1
        async with web.talk() as reader:
            await reader.say("resume", run_id=run_id)
            await reader.until("token", 3)
            await reader.say("stop")
            await reader.until("stopped")
        assert (await talk.until("error"))["code"] == "cancelled"
        assert await partials(t) == [talk.text()]


async def test_an_unknown_run_cannot_be_resumed() -> None:
    async with whole() as t, site(t.ingress()) as web, web.talk() as talk:
        await talk.say("resume", run_id="run_1", id=1)
        missing = await talk.until("error")
        assert (missing["code"], missing["run_id"], missing["error"]["kind"]) == ("not-found", "run_1", "run")
