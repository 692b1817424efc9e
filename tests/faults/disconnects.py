"""Clients leave in the middle of an answer: the model is stopped at once, and what they were given stays.

What is "what the client was given"? The server writes, the kernel carries, the client reads. A client that says goodbye
(closes its half of the connection) and reads to the end has all that the server wrote: its text and the session's must
be equal to the letter. One that hangs up or vanishes has read some of it, while more was on the way: the session's text
begins with what it has read, and is the beginning of the whole answer. How much more it has, is noted. An answer that
was whole before anybody saw that its client had left stays whole.
"""

from __future__ import annotations

import asyncio
import time

from faults.answers import pieces
from faults.trial import Ground, Trial
from faults.wire import Connection, Events

AT_ONCE = 16
CLOSED_S = 1.0
"""No call upstream is open so long after its client has left."""
FAREWELLS = ("goodbye", "hang up", "reset")


class Disconnects(Trial):
    name = "disconnect"
    promise = f"a client leaves: its call is closed within {CLOSED_S:g} s, and what it was given stays, marked partial"
    measure = "disconnects"
    times = 500

    async def run(self, ground: Ground) -> None:
        self._late = 0.0
        self._ahead: list[int] = []
        self._finished = 0
        numbers = iter(range(ground.times))

        async def work() -> None:
            for number in numbers:
                await self._leave(ground, number)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        still_open = await ground.system.upstream.idle(CLOSED_S)
        ground.expect(not still_open, f"{still_open} calls upstream are open {CLOSED_S:g} s after the last client left")
        ground.notes = {
            "longest_open_s": round(self._late, 3),
            "finished_before_it_was_seen": self._finished,
            "characters_on_the_way": max(self._ahead, default=0),
        }

    async def _leave(self, ground: Ground, number: int) -> None:
        farewell = FAREWELLS[number % len(FAREWELLS)]
        session = f"left-{number}"
        question = f"turn 1 of {session} for alpha"
        connection, events = await Connection.open(ground.port), Events()
        ground.requests += 1
        await connection.send("POST", "/chat", {"message": question, "session_id": session, "stream": True})
        status, headers = await connection.head()
        if status != 200:
            ground.problems.append(f"{session}: {status}")
            return
        # Several tokens of the model may come as one.
        wanted, left = ground.rng.randint(1, len("".join(pieces("alpha", 1, question))) * 4 // 5), False
        try:
            async for piece in connection.pieces(headers):
                events.add(piece)
                if not left and len(events.text) >= wanted:
                    left, left_s = True, time.monotonic()
                    if farewell != "goodbye":
                        break
                    connection.say_goodbye()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        if farewell == "hang up":
            connection.hang_up()
        elif farewell == "reset":
            connection.reset()
        if events.complete:
            self._finished += 1
            connection.hang_up()
            return
        open_s = await _closed(ground, f"alpha {question}", left_s)
        self._late = max(self._late, open_s)
        ground.expect(
            open_s <= CLOSED_S, f"{session}: its call was still open {open_s:.2f} s after its client had left"
        )
        connection.hang_up()
        await self._look(ground, session, question, events.text, farewell)

    async def _look(self, ground: Ground, session: str, question: str, received: str, farewell: str) -> None:
        """At what is in the session when the run has ended."""
        turns = await ground.history(session)
        until = time.monotonic() + 5.0
        while len(turns) < 2 and time.monotonic() < until:
            await asyncio.sleep(0.02)
            turns = await ground.history(session)
        if [turn.role for turn in turns] != ["user", "assistant"]:
            ground.problems.append(f"{session} ({farewell}): {turns}, received {received!r}")
            return
        kept, whole = turns[1].text, "".join(pieces("alpha", 1, question))
        self._finished += not turns[1].partial
        ground.acknowledged += 1
        self._ahead.append(len(kept) - len(received))
        ground.expect(
            kept == received if farewell == "goodbye" and turns[1].partial else kept.startswith(received),
            f"{session} ({farewell}): kept {kept!r}, received {received!r}",
        )
        ground.expect(whole.startswith(kept), f"{session}: {kept!r} is no beginning of the answer")
        ground.expect(turns[1].partial or kept == whole, f"{session}: {kept!r} is not marked partial")
        ground.expect(
            bool(turns[1].usage and turns[1].usage["completion_tokens"]), f"{session}: no usage, {turns[1].usage}"
        )


async def _closed(ground: Ground, call: str, left_s: float) -> float:
    """Seconds from the client's farewell until the endpoint saw the end of its call."""
    upstream = ground.system.upstream
    while call in upstream.under_way and time.monotonic() < left_s + 2 * CLOSED_S:
        await asyncio.sleep(0.005)
    return time.monotonic() - left_s
