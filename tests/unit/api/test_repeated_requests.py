"""One key is one run, whoever asks how often and where: the model is asked once, and a key belongs to one request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.whole import PATIENCE_S, Call, Speaker, Whole, whole

from rayflow.actors.sessions import Expiry
from rayflow.clock import ManualClock

KEYS, DUPLICATES = 50, 20


def ask(
    t: Whole, key: str, text: str = "q", ingress: int = 0, *, body: dict[str, Any] | None = None, **headers: str
) -> Call:
    given = {"message": text, **(body or {})}
    return Call(t.ingress(ingress), "/chat", given, idempotency_key=key, **headers)


async def test_keys_with_concurrent_duplicates_make_one_call_each() -> None:
    async with whole(Speaker(words=3)) as t:
        calls = [ask(t, f"k{key}", f"q{key}", number % 4) for key in range(KEYS) for number in range(DUPLICATES)]
        await asyncio.gather(*(call.done() for call in calls))
        assert {call.status for call in calls} == {200}
        assert t.model.calls == KEYS
        answers = {(call.json["run_id"], call.json["content"]) for call in calls}
        assert len(answers) == KEYS
        for call in calls[::DUPLICATES]:
            assert len(await t.turns(call.json["conversation_id"])) == 2


@pytest.mark.parametrize("session", ["", "s"])
async def test_a_key_is_remembered_with_its_request_when_its_run_is_over(session: str) -> None:
    headers = {"x_session_id": session} if session else {}
    async with whole(Speaker(words=2)) as t:
        first = await ask(t, "k", **headers).done()
        for number in range(40 if session else 0):
            await Call(t.ingress(), "/chat", {"message": f"other {number}", "session_id": session}).done()
        calls = t.model.calls
        again = await ask(t, "k", ingress=1, **headers).done()
        assert (again.status, again.json["content"]) == (200, first.json["content"])
        assert again.json["metadata"]["data"] == {"repeated": True}
        assert again.json["usage"] == first.json["usage"]
        assert first.json["usage"]["completion_tokens"] == 2
        for other in ({"text": "another"}, {"body": {"temperature": 1.0}}, {"body": {"agent": "a"}}):
            refused = await ask(t, "k", ingress=2, **headers, **other).done()  # type: ignore[arg-type]
            assert (refused.status, refused.json["type"]) == (422, "urn:rayflow:problem:idempotency-key-reused")
            assert refused.headers["x-should-retry"] == "false"
        assert t.model.calls == calls
        turns = [turn for turn in await t.turns(first.json["conversation_id"]) if turn.run_id == first.json["run_id"]]
        assert [turn.message.text for turn in turns] == ["q", "q-0 q-1 "]


async def test_a_key_is_good_for_a_day_though_its_session_has_expired() -> None:
    clock, expiry = ManualClock(), Expiry(3600.0, 0.0, 0.001)
    tenants = [{"name": name, "api_keys": [f"key-{name}-key-{name}"]} for name in ("one", "two")]

    async def expired(t: Whole, hours: float) -> None:
        clock.advance(hours * 3600)
        async with asyncio.timeout(PATIENCE_S):
            while await t.sessions("one"):
                await asyncio.sleep(0.001)

    async with whole(Speaker(words=2), clock=clock, expiry=expiry, tenants=tenants) as t:
        mine, other = ({"x_api_key": f"key-{name}-key-{name}"} for name in ("one", "two"))
        for session in ({}, {"x_session_id": "s"}):
            first = await ask(t, "k", **mine, **session).done()
            calls = t.model.calls
            await expired(t, 1.5)
            again = await ask(t, "k", ingress=1, **mine, **session).done()
            told = (again.status, again.json["content"], again.json["run_id"], again.json["usage"])
            assert told == (200, first.json["content"], first.json["run_id"], first.json["usage"])
            refused = await ask(t, "k", "another", **mine, **session).done()
            assert (refused.status, refused.json["type"]) == (422, "urn:rayflow:problem:idempotency-key-reused")
            assert t.model.calls == calls
            assert (await ask(t, "k", **other, **session).done()).status == 200
            assert t.model.calls == calls + 1, "another tenant's key is another key"
        await expired(t, 23)
        assert (await ask(t, "k", "another", **mine).done()).status == 200, "after a day it is a new request"


async def test_a_conversation_of_another_length_is_another_request() -> None:
    def body(*texts: str) -> dict[str, Any]:
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
        return {"model": "team", "messages": messages}

    async with whole(Speaker(words=2)) as t:
        for texts, status in ((("a",), 200), (("a", "b", "c"), 422), (("a",), 200)):
            call = Call(t.ingress(), "/v1/chat/completions", body(*texts), idempotency_key="k")
            assert (await call.done()).status == status
        assert t.model.calls == 1


async def test_two_tenants_may_have_the_same_key() -> None:
    tenants = [{"name": name, "api_keys": [f"key-{name}-key-{name}"]} for name in ("one", "two")]
    async with whole(Speaker(words=2), tenants=tenants) as t:
        calls = [
            await ask(t, "k", f"of {name}", x_api_key=f"key-{name}-key-{name}", x_session_id="s").done()
            for name in ("one", "two")
        ]
        assert [call.status for call in calls] == [200, 200]
        assert calls[0].json["run_id"] != calls[1].json["run_id"]
        assert t.model.calls == 2


async def test_whoever_does_not_want_to_wait_is_told_that_it_is_being_worked_on() -> None:
    async with whole(Speaker(words=2, free=1)) as t:
        first = ask(t, "k")
        async with asyncio.timeout(PATIENCE_S):
            while not t.model.open:
                await asyncio.sleep(0.001)
        refused = await ask(t, "k", ingress=1, x_rayflow_in_progress="reject").done()
        assert (refused.status, refused.json["type"]) == (409, "urn:rayflow:problem:conflict")
        assert refused.headers["x-should-retry"] == "false"
        other = await ask(t, "k", "another", ingress=1, x_rayflow_in_progress="reject").done()
        assert other.status == 422
        t.model.say(5)
        await first.done()
        assert (await ask(t, "k", x_rayflow_in_progress="reject").done()).json["content"] == first.json["content"]
        wrong = await ask(t, "k", x_rayflow_in_progress="maybe").done()
        assert (wrong.status, wrong.json["param"]) == (400, "x-rayflow-in-progress")


async def test_a_request_whose_client_left_half_way_can_be_sent_again() -> None:
    async with whole(Speaker(words=4, free=2)) as t:
        first = ask(t, "k", body={"stream": True}, x_session_id="s")
        await first.until(2)
        first.hang_up()
        await first.done()
        again = ask(t, "k", ingress=1, x_session_id="s")
        t.model.say(9)
        await again.done()
        assert (again.status, again.json["content"]) == (200, "q-0 q-1 q-2 q-3 ")
        assert [(turn.message.text, turn.partial) for turn in await t.turns("s")] == [
            ("q", False),
            (first.text, True),
            ("q-0 q-1 q-2 q-3 ", False),
        ]
        assert (await ask(t, "k", x_session_id="s").done()).json["content"] == again.json["content"]
