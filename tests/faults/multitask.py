"""Many clients talk into the same sessions at once, each time with one of the four strategies.

Each client keeps its own record of what it was told; afterwards the histories are read and compared with all of them.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from faults.answers import judge
from faults.trial import Ground, Told, Trial
from faults.wire import Connection, Events

CLIENTS_PER_SESSION = 5
TURNS = 50
PAUSE_S = 2.0
"""A client thinks for so long, at most, before it says the next thing: then some answers are cut, and some are not."""


@dataclass(slots=True)
class Said:
    """One message of a client, and what it was told. `text`: what it was given of an answer."""

    session: str
    question: str
    outcome: Literal["acknowledged", "refused", "cancelled", "failed"] = "failed"
    text: str = ""
    told: str = ""
    run_id: str = ""


class Multitask(Trial):
    """`times` counts clients; each says `TURNS` things into one of the sessions."""

    measure = "clients"
    times = 100

    def __init__(self, strategy: str, promise: str) -> None:
        self.name = f"multitask-{strategy}"
        self.strategy = strategy
        self.promise = promise

    async def run(self, ground: Ground) -> None:
        sessions = [f"{self.name}-{n}" for n in range(max(1, ground.times // CLIENTS_PER_SESSION))]
        turns = TURNS if ground.times >= Multitask.times else 4
        clients = [self._talk(ground, number, sessions, turns) for number in range(ground.times)]
        said = [each for client in await asyncio.gather(*clients) for each in client]
        histories = {session: await ground.history(session) for session in sessions}
        ground.requests = len(said)
        ground.acknowledged = sum(each.outcome == "acknowledged" for each in said)
        ground.notes = {
            "outcomes": dict(Counter(each.outcome for each in said)),
            "turns": sum(map(len, histories.values())),
            "partial": sum(turn.partial for history in histories.values() for turn in history),
        }
        ground.problems += check(said, histories, self.strategy)
        still_open = await ground.system.upstream.idle(3.0)
        ground.expect(not still_open, f"{still_open} calls upstream are still open")
        ground.expect(not ground.system.upstream.foreign, "a context held messages of another session")

    async def _talk(self, ground: Ground, number: int, sessions: Sequence[str], turns: int) -> list[Said]:
        connection, said = await Connection.open(ground.port), []
        session = sessions[number % len(sessions)]
        for turn in range(1, turns + 1):
            streamed = ground.rng.random() < 0.5
            each = Said(session, f"turn {turn} of {session} for alpha by c{number}")
            said.append(each)
            await self._say(connection, each, streamed)
            if self.strategy != "enqueue":
                await asyncio.sleep(ground.rng.uniform(0.0, PAUSE_S))
        connection.hang_up()
        return said

    async def _say(self, connection: Connection, said: Said, streamed: bool) -> None:
        body = {"message": said.question, "session_id": said.session, "stream": streamed}
        await connection.send("POST", "/chat", {**body, "multitask_strategy": self.strategy})
        status, headers = await connection.head()
        said.run_id = headers["x-request-id"]
        events = Events()
        async for piece in connection.pieces(headers):
            events.add(piece + (b"" if streamed and status == 200 else b"\n\n"))
        if status == 409:
            said.outcome = "refused"
        elif status != 200:
            said.told = f"{status} {events.whole}"
            said.outcome = "cancelled" if b"cancelled" in events.whole[0] else "failed"
        elif not streamed:
            said.outcome, said.text = "acknowledged", _content(events)
        else:
            said.text, error = events.text, events.error
            said.told = str(error or "")
            cancelled = error is not None and "cancelled" in error["type"]
            said.outcome = "acknowledged" if events.complete else "cancelled" if cancelled else "failed"


def _content(events: Events) -> str:
    content: str = json.loads(events.whole[0])["content"]
    return content


def check(said: Sequence[Said], histories: Mapping[str, Sequence[Told]], strategy: str) -> list[str]:
    """What is wrong with the histories, by what the clients were told."""
    problems: list[str] = []
    known = {each.question: each for each in said}
    answers: dict[str, list[Told]] = defaultdict(list)
    asked: Counter[str] = Counter()
    for session, history in histories.items():
        before: Told | None = None
        for turn in history:
            if turn.role == "user":
                asked[turn.text] += 1
                if turn.text not in known or known[turn.text].session != session:
                    problems.append(f"foreign: {turn.text!r} in {session}")
            elif before is None or before.role != "user" or before.run_id != turn.run_id:
                problems.append(f"interleaved: {turn.text!r} in {session} does not follow its question")
            else:
                answers[before.text].append(turn)
            before = turn
    for each in said:
        problems += _wrong(each, asked[each.question], answers[each.question], strategy)
    return problems


def _wrong(said: Said, asked: int, answers: Sequence[Told], strategy: str) -> list[str]:
    """What is wrong with the traces of one message."""
    kept = [(turn.partial, turn.text) for turn in answers]
    match said.outcome:
        case "acknowledged":
            if judge(said.text, said.question, ["alpha"]) != "whole":
                return [f"wrong: {said.question!r} was answered {said.text!r}"]
            return (
                [] if asked == 1 and kept == [(False, said.text)] else [f"acknowledged: {said}, {asked} times {kept}"]
            )
        case "refused":
            return [] if strategy == "reject" and not asked else [f"refused: {said}, {asked} times"]
        case "cancelled" if strategy == "rollback":
            return [] if not asked else [f"rolled back: {said}, {asked} times {kept}"]
        case "cancelled" if strategy == "interrupt":
            due = [(True, said.text)] if said.text else []
            return [] if asked <= 1 and kept == due else [f"interrupted: {said}, {asked} times {kept}"]
        case _:
            return [f"failed: {said}"]


MULTITASK = (
    Multitask("enqueue", "messages that come too early wait: all are answered, one after the other"),
    Multitask("reject", "messages that come too early are refused, and leave no trace"),
    Multitask("interrupt", "a new message cuts the answer to the last one, of which stays what was shown"),
    Multitask("rollback", "a new message cuts the answer to the last one, and nothing of both stays"),
)
