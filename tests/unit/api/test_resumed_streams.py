"""A stream that broke is picked up on any ingress process, byte by byte where it was cut."""

from __future__ import annotations

import asyncio
import random

import pytest
from support.whole import PATIENCE_S, Call, Speaker, Whole, whole

from rayflow.runtime.recordings import Recordings

CUTS = 40
STAYS = {"processing": {"on_disconnect": "continue"}}


def asked(t: Whole, session: str = "s", ingress: int = 0) -> Call:
    return Call(t.ingress(ingress), "/chat", {"message": "q", "session_id": session, "stream": True})


def resumed(t: Whole, run_id: str, after: int = 0, ingress: int = 1, **headers: str) -> Call:
    last = {"last_event_id": str(after)} if after else {}
    return Call(t.ingress(ingress), f"/runs/{run_id}/events", method="GET", **last, **headers)


def cut_after(received: bytes, events: int) -> tuple[bytes, int]:
    """The first events of a stream, and the number of the last one that has one."""
    begun = b"".join(event + b"\n\n" for event in received.split(b"\n\n")[:events])
    numbers = [int(line[4:]) for line in begun.split(b"\n") if line.startswith(b"id: ")]
    return begun, numbers[-1] if numbers else 0


async def ended(t: Whole) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while t.router._runs:
            await asyncio.sleep(0.001)


async def test_a_stream_that_is_over_can_be_resumed_after_each_of_its_events() -> None:
    async with whole(Speaker(words=4)) as t:
        uncut = (await asked(t).done()).received
        events = uncut.count(b"\n\n")
        run_id = t.events[0].run_id if t.events else ""
        run_id = run_id or next(iter(t.router._following._recordings._kept))
        for kept in range(1, events - 1):
            begun, last = cut_after(uncut, kept)
            rest = await resumed(t, run_id, last).done()
            assert begun + rest.received == uncut
        assert (await resumed(t, run_id).done()).received == uncut


async def test_streams_cut_at_any_token_go_on_elsewhere_byte_by_byte() -> None:
    rng = random.Random(5)
    async with whole(Speaker(words=20), **STAYS) as t:

        async def cut(number: int) -> None:
            call = asked(t, f"s{number}", ingress=0)
            await call.until(rng.randint(1, 15))
            call.hang_up()
            await call.done()
            begun, last = cut_after(call.received, call.received.count(b"\n\n"))
            run_id = call.headers["x-request-id"]
            rest = await resumed(t, run_id, last, ingress=1 + number % 2).done()
            uncut = await resumed(t, run_id, ingress=3).done()
            assert begun + rest.received == uncut.received
            assert uncut.text == "".join(f"q-{i} " for i in range(20))
            assert uncut.received.endswith(b"data: [DONE]\n\n")

        await asyncio.gather(*(cut(number) for number in range(CUTS)))
        assert not t.clients[1]._followed


async def test_a_stream_goes_on_after_the_ingress_that_served_it_died() -> None:
    async with whole(Speaker(words=6, free=3)) as t:
        call = asked(t)
        await call.until(3)
        begun, last = cut_after(call.received, call.received.count(b"\n\n"))
        t.fabric.unbind("ingress/0")
        rest = resumed(t, call.headers["x-request-id"], last)
        await asyncio.sleep(0.01)
        t.model.say(9)
        await rest.done()
        uncut = await resumed(t, call.headers["x-request-id"]).done()
        assert begun + rest.received == uncut.received
        assert uncut.text == "".join(f"q-{i} " for i in range(6))
        assert t.model.calls == 1
        call.task.cancel()
        await asyncio.wait([call.task])


async def test_several_read_along_and_their_leaving_changes_nothing() -> None:
    async with whole(Speaker(words=6, free=2)) as t:
        call = asked(t)
        await call.until(2)
        run_id = call.headers["x-request-id"]
        readers = [resumed(t, run_id, ingress=number % 2) for number in range(3)]
        await asyncio.gather(*(reader.until(2) for reader in readers))
        readers[0].hang_up()
        await readers[0].done()
        t.model.say(9)
        await asyncio.gather(call.done(), *(reader.done() for reader in readers[1:]))
        assert {reader.received for reader in readers[1:]} == {call.received}


async def test_whoever_follows_a_run_that_is_stopped_hears_of_it() -> None:
    async with whole(Speaker(words=6, free=2)) as t:
        call = asked(t)
        await call.until(2)
        run_id = call.headers["x-request-id"]
        reader = resumed(t, run_id)
        await reader.until(2)
        await t.clients[1].cancel(run_id, "enough")
        await asyncio.gather(call.done(), reader.done())
        assert reader.data[-1]["error"]["type"] == "urn:rayflow:problem:cancelled"
        late = await resumed(t, run_id, 4).done()
        assert b"cancelled" in late.received


@pytest.mark.parametrize("stream", [False, True])
async def test_a_run_that_is_unknown_or_was_not_streamed_is_not_found(stream: bool) -> None:
    async with whole() as t:
        body = {"message": "q", "session_id": "s", "stream": False}
        run_id = "run_1" if stream else (await Call(t.ingress(), "/chat", body).done()).json["run_id"]
        missing = await resumed(t, run_id).done()
        assert (missing.status, missing.json["kind"]) == (404, "run")


async def test_an_id_that_is_no_number_is_refused() -> None:
    async with whole() as t:
        refused = await resumed(t, "run_1", last_event_id="seven").done()
        assert (refused.status, refused.json["param"]) == (400, "last-event-id")


def test_recordings_are_few_and_short_lived() -> None:
    kept: Recordings[str] = Recordings(max_runs=2, max_chars=10, max_age_s=5.0)
    for number, run_id in enumerate(("a", "b", "c")):
        kept.keep(run_id, run_id.upper(), 4, float(number))
    assert [kept.get(run_id, 2.0) for run_id in "abc"] == [None, "B", "C"]
    kept.keep("d", "D", 7, 2.0)
    assert [kept.get(run_id, 2.0) for run_id in "bcd"] == [None, None, "D"]
    assert kept.get("d", 7.0) is None
    assert len(kept) == 0
