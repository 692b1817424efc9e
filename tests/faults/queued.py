"""Messages wait for their session, and all who know of them die at once: routers and ingress processes, or every
process of the system. Nobody asks for them again; all are answered, once, in the order in which they came.

The answer that they wait for is held back at the model's endpoint, so all of them wait at the moment of the death.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from faults.answers import judge
from faults.system import HEAL_S
from faults.trial import Ground, Told, Trial
from faults.upstream import Trouble
from faults.wire import Connection, connection_to

SESSIONS = 3
WAITING = 4
"""Messages of each session, beside the one that is worked on."""
ANSWERED_S = 30.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Message:
    """`key`: its idempotency key; without one its client does not mind to leave."""

    session: str
    question: str
    key: str

    @property
    def body(self) -> dict[str, object]:
        body: dict[str, object] = {"message": self.question, "session_id": self.session}
        return body if self.key else {**body, "on_disconnect": "continue"}

    @property
    def headers(self) -> dict[str, str]:
        return {"idempotency-key": self.key} if self.key else {}


class Queued(Trial):
    """`times` counts deaths; every second one is that of the whole system."""

    name = "queued"
    promise = "messages that wait are answered once and in order, though routers and ingress, or everything, was killed"
    measure = "deaths"
    times = 20

    async def run(self, ground: Ground) -> None:
        for death in range(ground.times):
            await self._once(ground, death)
            ground.say(f"death {death + 1} of {ground.times}: {ground.acknowledged} of {ground.requests} answered")

    async def _once(self, ground: Ground, death: int) -> None:
        lines = [_line(f"queued-{death}-{n}") for n in range(SESSIONS)]
        ground.system.upstream.trouble = Trouble.STALL
        door = ground.rng.choice(await ground.doors())
        connections = [await self._enter(ground, door, line) for line in lines]
        await asyncio.sleep(ground.rng.uniform(0.0, 0.1))
        if death % 2:
            ground.system.upstream.trouble = None
            await ground.system.restart()
        else:
            await self._kill(ground, door)
        for connection in (each for line in connections for each in line):
            connection.reset()
        histories = await asyncio.gather(*(self._answered(ground, line) for line in lines))
        for line, history in zip(lines, histories, strict=True):
            await self._check(ground, line, history)

    async def _enter(self, ground: Ground, door: int, line: Sequence[Message]) -> list[Connection]:
        """Ask, one after the other: the first is worked on, the others are known to wait."""
        connections, before = [], await ground.system.watch.waiting(self.shards)
        for number, message in enumerate(line):
            connection = await connection_to(ground.port, door)
            await connection.send("POST", "/chat", message.body, message.headers)
            ground.requests += number > 0
            connections.append(connection)
            if number == 0:
                await self._until(lambda: bool(ground.system.upstream.under_way[f"alpha {line[0].question}"]))
            else:
                until = time.monotonic() + HEAL_S
                while len(await ground.system.watch.waiting(self.shards) - before) < number:
                    assert time.monotonic() < until, f"message {number} of {message.session} does not wait"
                    await asyncio.sleep(POLL_S)
        return connections

    async def _kill(self, ground: Ground, door: int) -> None:
        victims = [actor.pid for actor in (await ground.system.watch.look()).of("router")]
        for pid in (door, *victims):
            os.kill(pid, signal.SIGKILL)
        ground.system.upstream.trouble = None
        _, took_s = await ground.system.watch.until(
            lambda now: (
                now.whole(ground.system.expected) and not {door, *victims} & {a.pid for a in now.actors.values()}
            ),
            HEAL_S,
        )
        ground.expect(took_s is not None, "the routers were not replaced")

    async def _answered(self, ground: Ground, line: Sequence[Message]) -> list[Told]:
        """The history of a session, once all that waited is answered there."""
        until, history = time.monotonic() + ANSWERED_S, list[Told]()
        while time.monotonic() < until:
            with suppress(OSError, asyncio.IncompleteReadError, AssertionError):
                history = await ground.history(line[0].session)
            if sum(turn.role == "assistant" for turn in history) >= len(line) - 1 and history[-1].role == "assistant":
                break
            await asyncio.sleep(POLL_S)
        return history

    async def _check(self, ground: Ground, line: Sequence[Message], history: Sequence[Told]) -> None:
        first, *waited = line
        asked = [turn.text for turn in history if turn.role == "user"]
        ground.expect(asked == [each.question for each in line], f"{first.session}: asked were {asked}")
        for message in waited:
            answers = [
                turn.text
                for before, turn in pairwise(history)
                if before.text == message.question and turn.role == "assistant" and not turn.partial
            ]
            whole = len(answers) == 1 and judge(answers[0], message.question, ["alpha"]) == "whole"
            ground.expect(whole, f"{message.question!r} was answered {answers}")
            calls = ground.system.upstream.calls[f"alpha {message.question}"]
            ground.expect(calls == 1, f"{message.question!r}: {calls} model calls")
            ground.acknowledged += whole
            if whole and message.key:
                connection = await Connection.open(ground.port)
                again = await connection.ask("POST", "/chat", message.body, message.headers)
                connection.hang_up()
                told = again.json["content"] if again.status == 200 else f"{again.status} {again.body[:200]!r}"
                ground.expect(told == answers[0], f"{message.question!r}: its key tells {told!r}")

    @staticmethod
    async def _until(there: Callable[[], bool]) -> None:
        async with asyncio.timeout(HEAL_S):
            while not there():
                await asyncio.sleep(POLL_S)


def _line(session: str) -> list[Message]:
    """Every second one that waits has a key."""
    return [
        Message(session, f"turn {n} of {session} for alpha", f"{session}.{n}" if n % 2 else "")
        for n in range(WAITING + 1)
    ]
