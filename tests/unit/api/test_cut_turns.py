"""A run that is cut leaves in its session just what its client was given, its model stops, and what it used is
known."""

from __future__ import annotations

import asyncio
import json
import random
import re

import pytest
from support.whole import PATIENCE_S, Call, Speaker, Whole, whole

from rayflow.actors import remains
from rayflow.api.web import WebServer, listen
from rayflow.messages import Spent

DISCONNECTS = 60


def asked(t: Whole, text: str, session: str = "s", **body: object) -> Call:
    return Call(t.ingress(), "/chat", {"message": text, "session_id": session, "stream": True, **body})


async def ended(t: Whole) -> None:
    """Wait until no run is under way."""
    async with asyncio.timeout(PATIENCE_S):
        while t.router._runs or t.model.open:
            await asyncio.sleep(0.001)


async def partials(t: Whole, session: str = "s") -> list[str]:
    return [turn.message.text for turn in await t.turns(session) if turn.partial]


async def test_clients_that_leave_at_any_token_leave_what_they_were_given() -> None:
    rng = random.Random(3)
    async with whole(Speaker(words=80)) as t:

        async def leave(number: int) -> tuple[str, str]:
            call = asked(t, "q", f"s{number}")
            await call.until(rng.randint(1, 25))
            call.hang_up()
            return f"s{number}", (await call.done()).text

        left = await asyncio.gather(*(leave(number) for number in range(DISCONNECTS)))
        await ended(t)
        for session, received in left:
            assert received
            assert await partials(t, session) == [received]


async def test_over_real_connections_it_is_what_arrived() -> None:
    """A client that says goodbye and reads to the end has all that was written."""
    rng = random.Random(4)
    async with whole(Speaker(words=80)) as t:
        web, sock = WebServer(t.ingress()), listen("127.0.0.1", 0)
        serving = asyncio.create_task(web.serve([sock]))
        port = sock.getsockname()[1]

        async def leave(number: int) -> tuple[str, str]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = json.dumps({"message": "q", "session_id": f"s{number}", "stream": True}).encode()
            head = b"POST /chat HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            writer.write(head % len(body) + body)
            received, wanted = b"", rng.randint(1, 20)
            while received.count(b'"type":"token"') < wanted:
                received += await reader.read(4096)
            writer.write_eof()
            received += await reader.read()
            writer.close()
            return f"s{number}", "".join(re.findall(r'"type":"token","content":"([^"]*)"', received.decode()))

        left = await asyncio.gather(*(leave(number) for number in range(DISCONNECTS)))
        await ended(t)
        for session, received in left:
            (said,) = [turn.message.text for turn in await t.turns(session) if turn.message.role == "assistant"]
            assert said == received
        web.stop()
        web.stop()
        await serving


async def test_leaving_stops_the_model_and_says_what_it_used() -> None:
    async with whole(Speaker(words=9, free=3)) as t:
        call = asked(t, "q" * 40)
        await call.until(3)
        assert t.model.open == 1
        call.hang_up()
        await call.done()
        await ended(t)
        trail = await t.trail(call.headers["x-request-id"])
        cut, kept, last = trail[-3:]
        assert (cut.kind, cut.status, cut.completion_tokens) == ("agent.finished", "cancelled", 3)
        assert (kept.kind, kept.data["partial"], kept.data["turn"]) == ("turn.committed", True, 2)
        assert (last.kind, last.status, last.prompt_tokens, last.completion_tokens) == (
            "run.finished",
            "cancelled",
            10,
            3,
        )
        turn = (await t.turns("s"))[-1]
        assert (turn.partial, turn.agent, turn.run_id) == (True, "a", call.headers["x-request-id"])


async def test_what_was_given_stays_where_the_replica_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had just finished, so there was nothing to cancel, and the router did not hear its reply any more."""
    monkeypatch.setattr(remains, "HEAR_S", 0.05)
    async with whole(Speaker(words=9, free=3)) as t:
        t.fabric.bind("router/0", {**t.router.handlers, Spent: lambda _: None})
        call = asked(t, "q" * 40)
        await call.until(3)
        call.hang_up()
        await call.done()
        await ended(t)
        assert await partials(t) == [call.text]
        trail = await t.trail(call.headers["x-request-id"])
        assert [event.kind for event in trail[-3:]] == ["agent.finished", "turn.committed", "run.finished"]
        assert trail[-1].prompt_tokens == 10
        assert trail[-1].completion_tokens == -(-len(call.text) // 4)


async def test_openais_clients_that_leave_are_treated_alike() -> None:
    body = {"model": "team", "messages": [{"role": "user", "content": "q"}], "stream": True}
    async with whole(Speaker(words=9, free=3)) as t:
        call = Call(t.ingress(), "/v1/chat/completions", body, x_session_id="s")
        async with asyncio.timeout(PATIENCE_S):
            while b"q-2" not in call.received:
                await asyncio.sleep(0.001)
        call.hang_up()
        await call.done()
        await ended(t)
        said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in call.data)
        assert await partials(t) == [said] == ["q-0 q-1 q-2 "]


async def test_a_client_that_leaves_before_the_first_token_leaves_only_its_question() -> None:
    async with whole(Speaker(words=9, free=0)) as t:
        call = asked(t, "q")
        async with asyncio.timeout(PATIENCE_S):
            while not t.model.open:
                await asyncio.sleep(0.001)
        call.hang_up()
        await call.done()
        await ended(t)
        assert [turn.message.text for turn in await t.turns("s")] == ["q"]


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_may_outlive_its_client_and_is_stored_whole(configured: bool, stream: bool) -> None:
    given = {"processing": {"on_disconnect": "continue"}} if configured else {}
    more = {} if configured else {"on_disconnect": "continue"}
    async with whole(Speaker(words=4, free=1), **given) as t:
        call = asked(t, "q", **{**more, "stream": stream})
        async with asyncio.timeout(PATIENCE_S):
            while not t.model.open:
                await asyncio.sleep(0.001)
        if stream:
            await call.until(1)
        call.hang_up()
        await call.done()
        t.model.say(9)
        await ended(t)
        assert [(turn.message.text, turn.partial) for turn in await t.turns("s")] == [
            ("q", False),
            ("q-0 q-1 q-2 q-3 ", False),
        ]
        assert not t.clients[0]._streams
        assert not t.clients[0]._lasting


async def test_any_ingress_stops_a_run_and_both_sides_have_the_same_text() -> None:
    async with whole(Speaker(words=9, free=3)) as t:
        call = asked(t, "q")
        await call.until(3)
        run_id = call.headers["x-request-id"]
        stopped = await Call(t.ingress(1), f"/runs/{run_id}/cancel").done()
        assert (stopped.status, stopped.json) == (200, {"run_id": run_id, "status": "cancelled"})
        assert not t.model.open
        assert await partials(t) == ["q-0 q-1 q-2 "], "it is durable when the answer comes"
        await call.done()
        assert call.text == "q-0 q-1 q-2 "
        assert call.data[-1]["error"]["type"] == "urn:rayflow:problem:cancelled"
        again = await Call(t.ingress(1), f"/runs/{run_id}/cancel").done()
        assert (again.status, again.json["type"]) == (404, "urn:rayflow:problem:not-found")


async def test_what_the_model_had_said_is_told_before_the_error() -> None:
    """The client has the beginning; the rest was still being collected."""
    async with whole(Speaker(words=9, free=3), streaming={"flush_s": 5.0, "max_chars": 1000}) as t:
        call = asked(t, "q")
        await call.until(1)
        async with asyncio.timeout(PATIENCE_S):
            while not t.model._said.locked():
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        await t.clients[0].cancel(call.headers["x-request-id"], "enough")
        await call.done()
        assert await partials(t) == [call.text] == ["q-0 q-1 q-2 "]


async def test_nobody_stops_the_run_of_another_tenant() -> None:
    tenants = [{"name": "one", "api_keys": ["key-one-key-one"]}, {"name": "two", "api_keys": ["key-two-key-two"]}]
    async with whole(Speaker(words=2, free=1), tenants=tenants) as t:
        call = Call(t.ingress(), "/chat", {"message": "q", "stream": True}, x_api_key="key-one-key-one")
        await call.until(1)
        run_id = call.headers["x-request-id"]
        for path, method in ((f"/runs/{run_id}/cancel", "POST"), (f"/runs/{run_id}/events", "GET")):
            other = await Call(t.ingress(1), path, method=method, x_api_key="key-two-key-two").done()
            assert other.status == 404
        t.model.say(5)
        await call.done()
        assert b"[DONE]" in call.received


async def test_the_next_message_sees_what_was_kept() -> None:
    async with whole(Speaker(words=9, free=3)) as t:
        call = asked(t, "q")
        await call.until(3)
        call.hang_up()
        follow_up = asked(t, "next")
        await call.done()
        t.model.say(9)
        await follow_up.done()
        said = [(turn.message.role, turn.message.text) for turn in await t.turns("s")]
        assert said[:3] == [("user", "q"), ("assistant", call.text), ("user", "next")]
        assert json.loads(json.dumps(follow_up.data[-2]["usage"]["conversation_id"])) == "s"
