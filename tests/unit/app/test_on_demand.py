"""A child process that is there only while there is something to do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from rayflow.app.children import OnDemand
from rayflow.policies.restart import RestartPolicy

WAITS = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); print('up', flush=True); signal.pause()"


class Nursery:
    """Runs programs, one after the other, in place of the child; the last one again and again."""

    def __init__(self) -> None:
        self.programs: list[str] = []
        self.started: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
        self.child = OnDemand("the child", self._start, RestartPolicy(intensity=2, period_s=60.0, max_delay_s=0.01))
        self.task = asyncio.create_task(self.child.run())

    async def _start(self) -> asyncio.subprocess.Process:
        program = self.programs.pop(0) if len(self.programs) > 1 else self.programs[0]
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
        self.started.put_nowait(process)
        return process


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    nursery = Nursery()
    yield nursery
    await nursery.child.end(5.0, asyncio.Event())
    await nursery.task


async def test_nothing_is_started_before_somebody_calls(nursery: Nursery) -> None:
    await asyncio.sleep(0)
    assert nursery.started.empty() and not nursery.task.done()


async def test_it_ends_by_itself_and_is_started_with_the_next_call(nursery: Nursery) -> None:
    nursery.programs = ["pass"]
    for _ in range(2):
        nursery.child.wake()
        process = await nursery.started.get()
        assert await process.wait() == 0
    assert nursery.started.empty()


async def test_a_call_while_it_runs_is_not_lost(nursery: Nursery) -> None:
    nursery.programs = [WAITS, "pass"]
    nursery.child.wake()
    first = await nursery.started.get()
    assert first.stdout is not None
    await first.stdout.readline()
    nursery.child.wake()
    first.terminate()
    assert await (await nursery.started.get()).wait() == 0


async def test_one_that_dies_is_started_again_a_few_times_and_with_the_next_call(nursery: Nursery) -> None:
    nursery.programs = ["exit(3)"]
    nursery.child.wake()
    for _ in range(3):
        assert await (await nursery.started.get()).wait() == 3
    nursery.programs = ["pass"]
    nursery.child.wake()
    assert await (await nursery.started.get()).wait() == 0
    assert not nursery.task.done()


async def test_it_is_ended_with_the_others(nursery: Nursery) -> None:
    nursery.programs = [WAITS]
    nursery.child.wake()
    process = await nursery.started.get()
    assert process.stdout is not None
    await process.stdout.readline()
    assert await nursery.child.end(5.0, asyncio.Event()) == 0
    await nursery.task
    assert process.returncode == 0
