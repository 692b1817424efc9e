"""Streams that rest are woken together."""

from __future__ import annotations

import asyncio

from rayflow.actors.rounds import Rounds
from rayflow.clock import SYSTEM_CLOCK


async def test_streams_of_one_round_wake_together() -> None:
    rounds = Rounds(0.02, SYSTEM_CLOCK)
    woken: list[int] = []

    async def stream(number: int) -> None:
        waiting = rounds.after(8)
        assert waiting is not None
        await waiting
        woken.append(number)

    tasks = [asyncio.create_task(stream(number)) for number in range(8)]
    await tasks[0]
    await asyncio.sleep(0)  # all were woken in the same turn of the loop
    assert woken == list(range(8))
    assert all(task.done() for task in tasks)


async def test_a_stream_that_is_cut_while_it_rests_leaves_the_others_alone() -> None:
    rounds = Rounds(0.02, SYSTEM_CLOCK)
    cut, other = rounds.after(8), rounds.after(8)
    assert cut is not None
    assert other is not None
    cut.cancel()
    await other
    again = rounds.after(8)
    assert again is not None
    await again


async def test_few_streams_need_not_rest() -> None:
    assert Rounds(0.02, SYSTEM_CLOCK).after(3) is None
