"""A child is asked to end, asked again, and killed: in this order, and no further than needed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from rayflow.app import children
from rayflow.app.children import Keeper
from rayflow.errors import Unavailable
from rayflow.policies.restart import RestartPolicy

OBEDIENT = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(3))"
PATIENT = """
import signal
def first(*_):
    signal.signal(signal.SIGTERM, lambda *_: exit(5))
    print('{"heard": 1}', flush=True)
signal.signal(signal.SIGTERM, first)
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
PAUSE = "\nimport signal\nprint('{\"ready\": 1}', flush=True)\nwhile True: signal.pause()"


class Nursery:
    """One kept child that runs `code`; `said` gets its lines."""

    def __init__(self, code: str, intensity: int = 0) -> None:
        self.code = code
        self.said: asyncio.Queue[dict[str, int]] = asyncio.Queue()
        self.process: asyncio.subprocess.Process | None = None
        self.keeper = Keeper("the child", self._start, self.said.put_nowait, RestartPolicy(intensity, 60.0))
        self.task = asyncio.create_task(self.keeper.run())
        self.hurry = asyncio.Event()

    async def _start(self) -> asyncio.subprocess.Process:
        command = (sys.executable, "-c", self.code)
        self.process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        return self.process


@pytest.fixture
async def nursery(request: pytest.FixtureRequest) -> AsyncIterator[Nursery]:
    made = Nursery(request.param + PAUSE)
    assert await made.said.get() == {"ready": 1}
    yield made
    await made.keeper.end(0, made.hurry)
    await made.task


@pytest.mark.parametrize("nursery", [OBEDIENT], indirect=True)
async def test_a_child_that_ends_when_asked_is_let_end(nursery: Nursery) -> None:
    assert await nursery.keeper.end(60, nursery.hurry) == 3


@pytest.mark.parametrize("nursery", [""], indirect=True)
async def test_a_child_that_had_not_begun_has_cut_nothing(nursery: Nursery) -> None:
    assert await nursery.keeper.end(60, nursery.hurry) == 0


@pytest.mark.parametrize("nursery", [PATIENT], indirect=True)
async def test_a_child_that_drains_is_asked_again_when_there_is_a_hurry(nursery: Nursery) -> None:
    ending = asyncio.create_task(nursery.keeper.end(60, nursery.hurry))
    assert await nursery.said.get() == {"heard": 1}
    nursery.hurry.set()
    assert await ending == 5


@pytest.mark.parametrize("nursery", [DEAF], indirect=True)
@pytest.mark.parametrize("reason", ["hurry", "budget"])
async def test_a_child_that_does_not_listen_is_killed(
    nursery: Nursery, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "HURRY_S", 0.01)
    if reason == "hurry":
        nursery.hurry.set()
    assert await nursery.keeper.end(60 if reason == "hurry" else 0, nursery.hurry) == -signal.SIGKILL


async def test_a_child_that_dies_is_started_again_until_it_dies_too_often() -> None:
    nursery = Nursery("print('{\"ready\": 1}', flush=True)", intensity=1)
    with pytest.raises(Unavailable, match=r"the child died 2 times \(last exit code 0\)"):
        await nursery.task
    assert [nursery.said.get_nowait() for _ in range(nursery.said.qsize())] == [{"ready": 1}] * 2
