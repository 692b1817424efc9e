"""Messages that meet in one session, with each strategy: every acknowledged turn is there exactly once, and a question
is followed by its own answer."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any

import pytest
from support.whole import Call, Speaker, Whole, whole

CLIENTS, TURNS, SESSIONS = 20, 8, 5


async def chat(t: Whole, text: str, session: str = "s", ingress: int = 0, **body: Any) -> Call:
    call = Call(t.ingress(ingress), "/chat", {"message": text, "session_id": session, **body})
    return await call.done()


def asked(t: Whole, text: str, session: str = "s", **body: Any) -> Call:
    return Call(t.ingress(), "/chat", {"message": text, "session_id": session, "stream": True, **body})


async def texts(t: Whole, session: str = "s") -> list[tuple[str, str, bool]]:
    return [(turn.message.role, turn.message.text, turn.partial) for turn in await t.turns(session)]


def whole_answer(text: str, words: int = 2) -> str:
    return "".join(f"{text}-{i} " for i in range(words))


@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt", "rollback"])
@pytest.mark.parametrize("stream", [False, True])
async def test_every_acknowledged_turn_is_there_once_and_never_interleaved(strategy: str, stream: bool) -> None:
    acknowledged: dict[str, list[str]] = {f"s{i}": [] for i in range(SESSIONS)}
    statuses: set[int] = set()
    rng = random.Random(7)

    async def client(t: Whole, number: int) -> None:
        for turn in range(TURNS):
            session, text = f"s{rng.randrange(SESSIONS)}", f"q{number}.{turn}"
            call = await chat(t, text, session, number % 3, stream=stream)
            statuses.add(call.status)
            if call.status == 200 and (not stream or b"[DONE]" in call.received):
                acknowledged[session].append(text)
            await asyncio.sleep(0)

    async with whole(Speaker(words=3), processing={"multitask_strategy": strategy}) as t:
        await asyncio.gather(*(client(t, number) for number in range(CLIENTS)))
        for session, asked in acknowledged.items():
            turns = await texts(t, session)
            complete = [
                question
                for (role, question, _), (_, answer, partial) in pairwise(turns)
                if role == "user" and answer == whole_answer(question, 3) and not partial
            ]
            assert set(asked) <= set(complete)
            assert len(complete) == len(set(complete))
            for (_, question, _), (role, answer, partial) in pairwise(turns):
                if role == "assistant":
                    assert whole_answer(question, 3).startswith(answer), "an answer follows its question"
                    assert partial or answer == whole_answer(question, 3)
            if strategy in ("enqueue", "reject", "rollback"):
                assert [text for role, text, _ in turns if role == "user"] == complete, "nothing else stays"
        assert not t.model.open
        assert not t.router._runs
    assert statuses == {200} if strategy == "enqueue" else statuses <= {200, 409, 499}


async def test_reject_says_who_is_in_the_way_and_that_trying_again_is_no_use() -> None:
    async with whole(Speaker(words=2, free=1)) as t:
        first = asked(t, "one")
        await first.until(1)
        refused = await chat(t, "two", multitask_strategy="reject")
        assert (refused.status, refused.json["type"]) == (409, "urn:rayflow:problem:conflict")
        assert refused.headers["x-should-retry"] == "false"
        assert refused.json["run_id"] == first.headers["x-request-id"]
        t.model.say(5)
        await first.done()
        assert (await chat(t, "three", multitask_strategy="reject")).status == 200


async def test_interrupt_keeps_what_was_shown_and_tells_it_to_both() -> None:
    async with whole(Speaker(words=4, free=2)) as t:
        first = asked(t, "one")
        await first.until(2)
        second = asked(t, "two", multitask_strategy="interrupt")
        await first.done()
        t.model.say(9)
        await second.done()
        assert first.text == "one-0 one-1 "
        assert first.data[-1]["error"]["type"] == "urn:rayflow:problem:cancelled"
        assert await texts(t) == [
            ("user", "one", False),
            ("assistant", "one-0 one-1 ", True),
            ("user", "two", False),
            ("assistant", whole_answer("two", 4), False),
        ]


async def test_rollback_takes_the_turns_back_and_leaves_the_trail() -> None:
    async with whole(Speaker(words=4, free=4)) as t:
        await chat(t, "zero")
        t.model.say(2)
        first = asked(t, "one")
        await first.until(2)
        second = asked(t, "two", multitask_strategy="rollback")
        await first.done()
        t.model.say(9)
        await second.done()
        assert [text for _, text, _ in await texts(t)] == [
            "zero",
            whole_answer("zero", 4),
            "two",
            whole_answer("two", 4),
        ]
        trail = await t.trail(first.headers["x-request-id"])
        assert (trail[-1].kind, trail[-1].status, trail[-1].data["rolled_back"]) == ("run.finished", "cancelled", True)
        assert "turn.committed" in [event.kind for event in trail]


async def test_the_newest_message_supersedes_all_that_wait() -> None:
    async with whole(Speaker(words=2, free=1)) as t:
        first = asked(t, "one")
        await first.until(1)
        waiting = [asked(t, f"wait{i}") for i in range(3)]
        await asyncio.sleep(0.01)
        last = asked(t, "last", multitask_strategy="interrupt")
        t.model.say(9)
        await asyncio.gather(*(call.done() for call in (first, last, *waiting)))
        assert [call.status for call in waiting] == [499] * 3
        assert [text for role, text, _ in await texts(t) if role == "user"] == ["one", "last"]


async def test_an_unknown_strategy_is_refused_by_name() -> None:
    async with whole() as t:
        refused = await chat(t, "one", multitask_strategy="shout")
        assert (refused.status, refused.json["param"]) == (400, "multitask_strategy")
        body = {"model": "team", "messages": [{"role": "user", "content": "hi"}], "metadata": {"on_disconnect": "stay"}}
        call = await Call(t.ingress(), "/v1/chat/completions", body).done()
        assert (call.status, call.json["error"]["param"]) == (400, "metadata.on_disconnect")
