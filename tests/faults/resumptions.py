"""Streams break at any byte and are picked up at another door, also where the first one is dead: what a client has in
the end is, to the byte, what it would have had.

Two clients read each run. One is cut, at a byte chosen by lot, and goes on with `Last-Event-ID` at the other ingress
process. The other one reads the same run there from its first event, and is never cut.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field

from faults.answers import judge
from faults.system import HEAL_S
from faults.trial import Ground, Trial
from faults.wire import Connection, Events, connection_to

AT_ONCE = 10
KILL_EVERY = 2
"""Every second batch of streams loses its ingress process."""


@dataclass(slots=True)
class Stream:
    session: str
    question: str
    first: Connection
    cut_at: int
    """Bytes of its body."""
    run_id: str = ""
    events: Events = field(default_factory=Events)
    reached: asyncio.Event = field(default_factory=asyncio.Event)


class Resumptions(Trial):
    name = "resume"
    promise = "a stream that broke goes on at another ingress process, byte by byte, also when the first one was killed"
    measure = "streams"
    times = 200

    async def run(self, ground: Ground) -> None:
        kills = cut = 0
        batches = -(-ground.times // AT_ONCE)
        for batch in range(batches):
            first, second = await self._doors(ground)
            if batch % 2:
                first, second = second, first
            size = min(AT_ONCE, ground.times - batch * AT_ONCE)
            streams = [await self._begin(ground, first, f"torn-{batch}-{n}", n) for n in range(size)]
            kill = batch % KILL_EVERY == KILL_EVERY - 1
            reading = [asyncio.create_task(self._read(each, kill)) for each in streams]
            await asyncio.gather(*(each.reached.wait() for each in streams[: 1 if kill else size]))
            if kill:
                os.kill(first, signal.SIGKILL)
                kills += 1
            await asyncio.gather(*reading)
            cut += sum(not each.events.complete for each in streams)
            await asyncio.gather(*(self._resume(ground, each, second) for each in streams))
            if kill:
                ground.say(f"batch {batch + 1} of {batches}: process {first} was killed")
                _, took_s = await ground.system.watch.until(lambda now: now.whole(ground.system.expected), HEAL_S)
                ground.expect(took_s is not None, f"ingress process {first} was not replaced")
        ground.notes = {"cut": cut, "kills": kills}

    async def _doors(self, ground: Ground) -> tuple[int, int]:
        doors = await ground.doors()
        assert len(doors) == 2, f"{len(doors)} ingress processes are ready"
        return doors[0], doors[1]

    async def _begin(self, ground: Ground, door: int, session: str, number: int) -> Stream:
        question = f"turn 1 of {session} for {('alpha', 'beta')[number % 2]}"
        return Stream(session, question, await connection_to(ground.port, door), ground.rng.randint(1, 1200))

    async def _read(self, stream: Stream, killed: bool) -> None:
        """Up to its end. Where its server is `killed`, it only says when it would have been cut."""
        body = {"message": stream.question, "session_id": stream.session, "stream": True}
        if not killed:  # a client that leaves would cancel the run; a process that dies does not
            body["on_disconnect"] = "continue"
        received = 0
        try:
            await stream.first.send("POST", "/chat", body)
            _, headers = await stream.first.head()
            stream.run_id = headers["x-request-id"]
            async for piece in stream.first.pieces(headers):
                given = piece if killed else piece[: stream.cut_at - received]
                stream.events.add(given)
                received += len(given)
                if received >= stream.cut_at:
                    stream.reached.set()
                    if not killed:
                        break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            stream.reached.set()
            stream.first.reset()

    async def _resume(self, ground: Ground, stream: Stream, door: int) -> None:
        ground.requests += 1
        if not stream.run_id:
            ground.notes["killed before the first byte"] = True
            return
        last_id = stream.events.last_id
        rest, whole = await asyncio.gather(
            self._follow(ground, stream, door, {"last-event-id": str(last_id)} if last_id else {}),
            self._follow(ground, stream, door, {}),
        )
        had = stream.events.whole
        if had and not had[-1].startswith(b"id: "):
            had = [event for event in had if event.startswith(b"id: ")]
        ground.expect(
            [*had, *rest.whole] == whole.whole and whole.complete,
            f"{stream.session}: {len(had)} events and {len(rest.whole)} more are not the {len(whole.whole)} of the"
            f" whole stream: {_difference([*had, *rest.whole], whole.whole)}",
        )
        agent = stream.question.rsplit(" ", 1)[1]
        ground.expect(
            judge(whole.text, stream.question, [agent]) == "whole", f"{stream.session}: it says {whole.text!r}"
        )
        ground.acknowledged += 1

    async def _follow(self, ground: Ground, stream: Stream, door: int, headers: dict[str, str]) -> Events:
        connection, events = await connection_to(ground.port, door), Events()
        await connection.send("GET", f"/runs/{stream.run_id}/events", None, {"x-session-id": stream.session, **headers})
        status, answered = await connection.head()
        async for piece in connection.pieces(answered):
            events.add(piece)
        ground.expect(status == 200, f"{stream.session}: to be resumed got {status} {events.raw!r}")
        connection.hang_up()
        return events


def _difference(left: list[bytes], right: list[bytes]) -> str:
    """Where they begin to differ."""
    at = next((i for i, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), -1)
    return f"event {at}, {left[at][:200]!r} and {right[at][:200]!r}" if at >= 0 else "one is shorter"
