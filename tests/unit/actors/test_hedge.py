"""Two runners, one answer: whoever is good first, and nobody is left running."""

from __future__ import annotations

import asyncio

import pytest
from actor_doubles import settle

from rayflow.actors.hedge import hedged


class Runner:
    """Answers `name` once it is `released`, or raises that it is broken."""

    def __init__(self, name: str, *, broken: bool = False) -> None:
        self.name = name
        self.broken = broken
        self.state = "new"
        self.released = asyncio.Event()

    async def run(self) -> str:
        self.state = "running"
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.state = "cancelled"
            raise
        self.state = "done"
        if self.broken:
            raise ValueError(self.name)
        return self.name


class Race:
    def __init__(self, *broken: str, second: bool = True) -> None:
        self.first, self.second = (Runner(name, broken=name in broken) for name in ("first", "second"))
        self.dropped: list[BaseException] = []
        self.sent: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._second = second

    def start(self, *, sent: bool = True) -> asyncio.Task[str]:
        if sent:
            self.sent.set_result("agent/a/0")
        run = hedged(
            self.first.run(), self.sent, 0.0, lambda: self.second.run() if self._second else None, self.dropped.append
        )
        return asyncio.create_task(run)

    async def both(self) -> None:
        while self.second.state == "new":
            await asyncio.sleep(0)

    @property
    def states(self) -> tuple[str, str]:
        return self.first.state, self.second.state


@pytest.mark.parametrize("winner", ["first", "second"])
async def test_the_first_good_answer_wins_and_the_other_call_is_cancelled(winner: str) -> None:
    race = Race()
    run = race.start()
    await race.both()
    getattr(race, winner).released.set()
    assert await run == winner
    assert sorted(race.states) == ["cancelled", "done"]


async def test_what_ends_before_the_wait_is_over_has_no_second_call() -> None:
    race = Race("first")
    race.first.released.set()
    with pytest.raises(ValueError, match="first"):
        await race.start()
    assert race.second.state == "new"


async def test_while_the_first_call_waits_for_a_place_there_is_no_second() -> None:
    race = Race()
    run = race.start(sent=False)
    await settle()
    assert race.states == ("running", "new")
    race.sent.set_result("agent/a/0")
    await race.both()
    race.second.released.set()
    assert await run == "second"


@pytest.mark.parametrize(("broken", "good"), [("first", "second"), ("second", "first")])
async def test_a_failure_is_outrun_by_the_other_call(broken: str, good: str) -> None:
    race = Race(broken)
    run = race.start()
    await race.both()
    getattr(race, broken).released.set()
    await settle()
    assert not run.done()
    getattr(race, good).released.set()
    assert await run == good
    assert [str(error) for error in race.dropped] == [broken]


async def test_where_both_fail_the_first_ones_error_is_told() -> None:
    race = Race("first", "second")
    run = race.start()
    await race.both()
    race.second.released.set()
    race.first.released.set()
    with pytest.raises(ValueError, match="first"):
        await run
    assert [str(error) for error in race.dropped] == ["second"]


async def test_without_a_second_call_the_first_is_waited_for() -> None:
    race = Race(second=False)
    run = race.start()
    await settle()
    race.first.released.set()
    assert await run == "first"


async def test_who_gives_up_leaves_no_call_running() -> None:
    race = Race()
    run = race.start()
    await race.both()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert race.states == ("cancelled", "cancelled")
