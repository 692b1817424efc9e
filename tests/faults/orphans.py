"""The router dies while answers are streamed: each stream ends with an error or is whole, and its session has to the
letter what its client has. The next message finds the session as it should be."""

from __future__ import annotations

import asyncio
import os
import signal

from faults.answers import judge
from faults.pacing import Pacer
from faults.trial import Ground, Trial
from faults.wire import Connection, Events

STREAMS = 10
"""For each death."""


class Orphans(Trial):
    name = "orphans"
    promise = "kill -9 of a router in the middle of answers: what was shown of them stays, marked partial"
    measure = "kills"
    times = 20

    async def run(self, ground: Ground) -> None:
        cut, pacer = 0, Pacer(ground.rng)
        for kill in range(ground.times):
            victim = await ground.system.victim("router", pacer)
            begun = asyncio.Event()
            sessions = [f"orphan-{kill}-{n}" for n in range(STREAMS)]
            reading = [asyncio.create_task(self._read(ground, session, begun)) for session in sessions]
            await begun.wait()
            await asyncio.sleep(ground.rng.uniform(0.0, 0.15))
            os.kill(victim.pid, signal.SIGKILL)
            streams = await asyncio.gather(*reading)
            for session, events in zip(sessions, streams, strict=True):
                cut += not events.complete
                await self._check(ground, session, events)
            await ground.expect_replaced(victim)
        ground.notes = {"streams": ground.requests, "cut": cut}
        ground.expect(cut > 0, "no stream was cut")

    async def _read(self, ground: Ground, session: str, begun: asyncio.Event) -> Events:
        """A stream to its end. `begun`: a token has come."""
        connection, events = await Connection.open(ground.port), Events()
        ground.requests += 1
        await connection.send("POST", "/chat", {"message": _question(session), "session_id": session, "stream": True})
        _, headers = await connection.head()
        async for piece in connection.pieces(headers):
            events.add(piece)
            if events.text:
                begun.set()
        connection.hang_up()
        return events

    async def _check(self, ground: Ground, session: str, events: Events) -> None:
        turns = await ground.history(session)
        has = [(turn.role, turn.text, turn.partial) for turn in turns]
        due = [("user", _question(session), False)]
        if events.text:
            # An answer that was shown to its end may be durable as such: the router died before it could say so.
            whole = events.complete or (has[1:] == [("assistant", events.text, False)] and self._whole(session, events))
            due.append(("assistant", events.text, not whole))
        ground.expect(has == due, f"{session}: it has {has}, the client {events.text!r} and {events.error}")
        ground.expect(events.complete or events.error is not None, f"{session}: it just ended")
        ground.expect(
            not events.complete or self._whole(session, events),
            f"{session}: it says {events.text!r}",
        )
        ground.expect(
            len(turns) < 2 or bool(turns[1].usage and turns[1].usage["completion_tokens"]), f"{session}: no usage"
        )
        ground.acknowledged += has == due

    @staticmethod
    def _whole(session: str, events: Events) -> bool:
        return judge(events.text, _question(session), ["alpha"]) == "whole"


def _question(session: str) -> str:
    return f"turn 1 of {session} for alpha"
