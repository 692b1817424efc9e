from __future__ import annotations

import asyncio
import random

from faults.load import Load
from faults.operations import Operation, Outcome


class Patient:
    """A client whose answers come when they are let through."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.under_way: dict[str, int] = {}
        self.most = 0

    async def ask(self, operation: Operation) -> None:
        now = self.under_way[operation.session] = self.under_way.get(operation.session, 0) + 1
        self.most = max(self.most, now)
        await self.gate.wait()
        self.under_way[operation.session] -= 1
        operation.outcome = Outcome.OK


async def sent(load: Load, count: int) -> None:
    while len(load.operations) < count:
        await asyncio.sleep(0.001)


def load_of(client: Patient, rate: float, seed: int = 1) -> Load:
    return Load(client, "s", rate, random.Random(seed))  # type: ignore[arg-type]


async def test_requests_go_on_when_answers_do_not_come_and_no_session_has_two() -> None:
    client = Patient()
    load = load_of(client, rate=400)
    load.start()
    await sent(load, 500)
    assert load.in_flight >= 500
    client.gate.set()
    await load.stop()
    assert client.most == 1
    assert all(operation.outcome is Outcome.OK for operation in load.operations)
    assert load.in_flight == 0


async def test_turns_of_a_session_are_numbered_without_gaps_and_name_it() -> None:
    client = Patient()
    client.gate.set()
    load = load_of(client, rate=2000)
    load.start()
    await sent(load, 300)
    await load.stop()
    by_session: dict[str, list[int]] = {}
    for operation in load.operations:
        assert operation.question.startswith(f"turn {operation.n} of {operation.session} for ")
        by_session.setdefault(operation.session, []).append(operation.n)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_session.values())
    assert len({operation.key for operation in load.operations}) == len(load.operations)


async def test_some_are_streams_and_some_ask_both_agents() -> None:
    client = Patient()
    client.gate.set()
    load = load_of(client, rate=2000)
    load.start()
    await sent(load, 300)
    await load.stop()
    streams = sum(operation.streamed for operation in load.operations[:300])
    both = sum(len(operation.agents) == 2 for operation in load.operations[:300])
    assert 100 < streams < 200
    assert both == 50
