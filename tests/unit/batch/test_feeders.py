"""Feeders on a fabric within this process: they die, are cut off, and share what their job may use."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, ScriptedClient

from rayflow.batch import crew, engagement, feeder, ranges
from rayflow.batch.crew import Crew
from rayflow.batch.feeder import Feeder
from rayflow.batch.inputs.source import Source
from rayflow.batch.run import JobRun
from rayflow.batch.status import Totals
from rayflow.chat import ModelParams
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import AuthenticationError, Conflict, ValidationError
from rayflow.messages import Ack, KeepFeeders, Payload, RunRequest
from rayflow.runtime.roster import COORDINATOR, feeder_address


class ClosingClient(ScriptedClient):
    def close(self) -> None:
        """There is nothing to close."""


class Floor:
    """The feeders that a job asks for, and a bench to run it on."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        bench.client = self.client = ClosingClient()
        self.fabric = InProcessFabric()
        self.feeders: dict[str, Feeder] = {}
        self.zombies: list[Feeder] = []
        self.wanted: list[int] = []
        self.fabric.bind(COORDINATOR, {KeepFeeders: self._keep})

    async def _keep(self, message: KeepFeeders) -> Payload:
        self.wanted.append(message.number)
        for address in map(feeder_address, range(message.number)):
            if address not in self.feeders:
                await self.begin(address)
        return Ack()

    async def begin(self, address: str) -> None:
        found = self.feeders[address] = Feeder(address, self.client, SYSTEM_CLOCK)
        await found.start()
        self.fabric.bind(address, found.handlers)

    def cut_off(self, address: str) -> Feeder:
        """Nobody reaches it any more, and it knows nothing of that."""
        self.fabric.unbind(address)
        self.zombies.append(self.feeders.pop(address))
        return self.zombies[-1]

    async def kill(self, address: str) -> None:
        """It is dead, and its place taken by another one at the next look."""
        works = self.cut_off(address)._works
        for work in works.values():
            await work.drop()

    async def close(self) -> None:
        for each in (*self.feeders.values(), *self.zombies):
            await each.stop()

    def job(self, *, retry_failed: bool = False, feeders: int = 2, **facts: Any) -> JobRun:
        limits = {"feeders": feeders, **facts.pop("limits", {})}
        spec = self.bench.spec(limits=limits, **facts)
        job = self.bench.directory.plan(spec, self.client.now_us())
        source = Source(spec.inputs, whole=bool(spec.selection.where))
        return JobRun(self.client, self.bench.directory, job, source, retry_failed=retry_failed, fabric=self.fabric)

    def check_all(self, number: int) -> None:
        """Each row of the input has one row of the results, and nothing else lies around."""
        rows = self.bench.rows()
        assert [(row.ordinal, row.id) for row in rows] == [(n, f"q{n}") for n in range(1, number + 1)]
        assert [row.answers for row in rows] == [[f"echo: prompt {n}"] for n in range(1, number + 1)]
        assert not self.bench.directory.journals()


@pytest.fixture
async def floor(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Floor]:
    monkeypatch.setattr(ranges, "ROWS", 5)
    monkeypatch.setattr(engagement, "ANSWER_S", 0.01)
    monkeypatch.setattr(crew, "PAUSE_S", 0.01)
    monkeypatch.setattr(crew, "KEEP_INTERVAL_S", 0.02)
    floor = Floor(bench)
    yield floor
    await floor.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.002)


class Dam:
    """Lets so many runs through; the others wait until it opens."""

    def __init__(self, client: ScriptedClient, through: int) -> None:
        self._client = client
        self._through = self._left = through
        self._open = asyncio.Event()
        client.gate = self._gate

    def _gate(self, request: RunRequest) -> asyncio.Future[None]:
        self._left -= 1
        return asyncio.ensure_future(asyncio.sleep(0) if self._left >= 0 else self._wait())

    async def _wait(self) -> None:
        await self._open.wait()

    async def full(self, in_flight: int) -> None:
        """Wait until nothing goes on any more."""
        await until(
            lambda: len(self._client.calls) == self._through + in_flight == self._through + self._client.in_flight
        )

    def open(self) -> None:
        self._left = 1_000_000
        self._open.set()


def journaled(bench: Bench) -> set[str]:
    """Prompts with a line in a journal or a row in a part."""
    found = {row.turns[0] for row in bench.rows()}
    for journal in bench.directory.journals():
        found |= {line.split('"turns":["')[1].split('"')[0] for line in journal.read_text().splitlines()}
    return found


async def test_feeders_share_the_ranges_and_each_row_is_run_once(floor: Floor) -> None:
    floor.bench.prompts(43)
    status = await floor.job(feeders=3).run()
    floor.check_all(43)
    assert (status.state, status.totals.ok, status.run, status.in_flight) == ("finished", 43, 43, 0)
    assert Counter(floor.client.asked()) == Counter(f"prompt {n}" for n in range(1, 44))
    assert floor.client.emitted() == ["batch.started", "batch.finished"]
    assert floor.wanted[0] == 3
    await until(lambda: floor.wanted[-1] == 0)


async def test_all_feeders_together_keep_to_the_concurrency_of_the_job(floor: Floor) -> None:
    floor.bench.prompts(60)
    dam = Dam(floor.client, 9)
    job = floor.job(feeders=3, concurrency=7)
    running = asyncio.create_task(job.run())
    await dam.full(7)
    await until(lambda: job.status.in_flight == 7)
    dam.open()
    await running
    assert floor.client.peak == 7
    floor.check_all(60)


async def test_a_feeder_that_dies_before_its_journal_is_part_of_the_results_costs_only_what_was_in_flight(
    floor: Floor,
) -> None:
    floor.bench.prompts(40)
    dam = Dam(floor.client, 13)
    running = asyncio.create_task(floor.job(concurrency=4).run())
    await dam.full(4)
    before = journaled(floor.bench)
    assert len(before) == 13 and floor.bench.directory.journals()
    in_flight = set(floor.client.asked()) - before
    await floor.kill(feeder_address(0))
    floor.client.calls.clear()
    dam.open()
    status = await running
    floor.check_all(40)
    assert status.totals.ok == 40
    again = [prompt for prompt in floor.client.asked() if prompt in in_flight]
    assert not before & set(floor.client.asked())
    assert len(again) == len(set(again)) <= 2


async def test_a_feeder_that_was_only_cut_off_writes_nothing_any_more(floor: Floor) -> None:
    floor.bench.prompts(30)
    dam = Dam(floor.client, 8)
    running = asyncio.create_task(floor.job(concurrency=4).run())
    await dam.full(4)
    zombie = floor.cut_off(feeder_address(1))
    held = [work for work in zombie._works.values() if work._ranges]
    assert held
    await until(lambda: floor.client.in_flight > 4)  # its rows are somebody else's now
    dam.open()  # and it goes on as if nothing had happened
    await running
    [work] = held
    work.halt()
    await work.over.wait()
    assert len(floor.client.calls) > 30
    floor.check_all(30)


async def test_a_feeder_that_is_stopped_leaves_its_ranges_to_the_others(floor: Floor) -> None:
    floor.bench.prompts(40)
    dam = Dam(floor.client, 13)
    running = asyncio.create_task(floor.job(concurrency=4).run())
    await dam.full(4)
    leaving = asyncio.create_task(floor.feeders[feeder_address(0)].drain(10.0))
    await until(lambda: floor.feeders[feeder_address(0)]._leaving)
    dam.open()
    await leaving
    floor.cut_off(feeder_address(0))
    assert (await running).totals.ok == 40
    floor.check_all(40)
    assert len(floor.client.calls) == 40


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_to_feeders_each_row_is_there_once(floor: Floor, seed: int) -> None:
    rng, rows = random.Random(seed), 120
    floor.bench.prompts(rows)
    floor.client.gate = lambda request: asyncio.ensure_future(asyncio.sleep(rng.random() / 100))
    running = asyncio.create_task(floor.job(feeders=3, concurrency=6).run())
    unlucky = 0
    while not running.done():
        await asyncio.sleep(rng.random() / 10)
        address = feeder_address(rng.randrange(3))
        if address in floor.feeders and unlucky < 8:
            unlucky += 1
            match rng.randrange(3):
                case 0:
                    await floor.kill(address)
                case 1:
                    floor.cut_off(address)
                case 2:
                    await floor.feeders[address].drain(1.0)
                    floor.cut_off(address)
    assert (await running).state == "finished"
    floor.check_all(rows)


async def test_a_lease_that_was_taken_back_can_make_no_journal(floor: Floor) -> None:
    directory = floor.bench.directory
    floor.bench.prompts(1)
    await floor.job().run()
    part = ranges.Range(directory, 0, Totals(), "1-1")
    with pytest.raises(Exception, match="No such file"):
        part.append(floor.bench.rows()[0])
    assert not directory.journals()


async def test_a_job_whose_owner_dies_goes_on_with_the_next_one(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    floor.bench.prompts(40)
    dam = Dam(floor.client, 12)
    running = asyncio.create_task(floor.job(concurrency=4).run())
    await dam.full(4)
    before = journaled(floor.bench)

    async def nothing(self: Crew) -> None:
        """A process that is killed tells nobody, and tidies nothing up."""
        self._merger.shutdown()

    with monkeypatch.context() as patch:
        patch.setattr(Crew, "_release", nothing)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert floor.bench.directory.journals()
    floor.client.calls.clear()
    resumed = asyncio.create_task(floor.job(concurrency=4).run())
    await until(lambda: len(floor.client.calls) > 0)
    dam.open()
    assert (await resumed).totals.ok == 40
    floor.check_all(40)
    assert not before & set(floor.client.asked())


async def test_feeders_of_an_owner_that_fell_silent_begin_nothing_more(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "WATCH_S", 0.01)
    floor.bench.prompts(40)
    dam = Dam(floor.client, 5)
    running = asyncio.create_task(floor.job(concurrency=4).run())
    await dam.full(4)

    async def nothing(self: Crew) -> None: ...

    monkeypatch.setattr(Crew, "_release", nothing)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    monkeypatch.setattr(feeder, "FORSAKEN_S", 0.0)
    await until(lambda: all(work._halted for each in floor.feeders.values() for work in each._works.values()))
    dam.open()
    await until(lambda: not any(each._works for each in floor.feeders.values()))
    assert len(floor.client.calls) == 9


async def test_stop_lets_all_feeders_finish_what_they_have_in_flight(floor: Floor) -> None:
    floor.bench.prompts(40)
    dam = Dam(floor.client, 10)
    job = floor.job(concurrency=4)
    running = asyncio.create_task(job.run())
    await dam.full(4)
    job.stop()
    await until(lambda: all(work._halted for each in floor.feeders.values() for work in each._works.values()))
    dam.open()
    status = await running
    assert (status.state, status.totals.rows, len(floor.client.calls)) == ("interrupted", 14, 14)
    assert len(floor.bench.rows()) == 14 and not floor.bench.directory.journals()
    assert (await floor.job().run()).state == "finished"
    floor.check_all(40)
    assert len(floor.client.calls) == 40


async def test_a_job_that_is_dropped_keeps_what_is_finished(floor: Floor) -> None:
    floor.bench.prompts(40)
    dam = Dam(floor.client, 10)
    running = asyncio.create_task(floor.job(concurrency=4).run())
    await dam.full(4)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(floor.bench.rows()) == 10 and not floor.bench.directory.journals()
    await until(lambda: floor.client.in_flight == 0)


async def test_a_key_that_is_refused_pauses_the_job_for_all(floor: Floor) -> None:
    floor.bench.prompts(40)
    floor.client.failures["prompt 17"] = iter([AuthenticationError("the key is refused")])
    status = await floor.job().run()
    assert status.state == "paused" and status.reason.endswith("the key is refused")
    assert floor.client.emitted() == ["batch.started", "batch.paused", "batch.finished"]
    assert (await floor.job().run()).state == "finished"
    floor.check_all(40)


@pytest.mark.parametrize("feeders", [2, 3])
async def test_all_feeders_together_keep_to_the_cost_of_the_job_and_use_it_up(floor: Floor, feeders: int) -> None:
    floor.bench.prompts(60)
    cost = 13e-6  # 3 tokens in, 5 out
    limit = 600e-6  # and what the first row may cost is 502e-6: no two feeders may begin one at the same time
    status = await floor.job(
        params=ModelParams(max_tokens=1), limits={"cost_usd": limit}, feeders=feeders, concurrency=6
    ).run()
    assert status.state == "paused" and "raise the limit" in status.reason
    assert limit - 2 * cost < status.totals.cost_usd <= limit


async def test_a_feeder_that_sees_other_files_ends_the_job_with_the_reason(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.bench.prompts(40)
    monkeypatch.setattr(engagement, "seen", lambda inputs: "something else")
    with pytest.raises(ValidationError, match=r"feeder/\d on .* sees other files .* shared file system"):
        await floor.job().run()
    assert floor.bench.directory.status().state == "failed"


async def test_a_feeder_that_does_not_see_the_folder_says_so(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    floor.bench.prompts(4)
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(engagement, "JobDirectory", lambda path: type(floor.bench.directory)(elsewhere))
    with pytest.raises(ValidationError, match="does not see the folder of the job"):
        await floor.job().run()


async def test_an_input_that_has_changed_is_refused_by_feeders_too(floor: Floor) -> None:
    floor.bench.write(*({"prompt": f"prompt {n}"} for n in range(1, 13)))
    await floor.job(limits={"limit": 8}).run()
    floor.bench.write(*({"prompt": f"Prompt {n}"} for n in range(1, 13)))
    with pytest.raises(Conflict, match="the input has changed"):
        await floor.job().run()


async def test_failed_rows_are_run_again_by_feeders_and_replaced(floor: Floor) -> None:
    floor.bench.prompts(23)
    for n in (3, 11, 19):
        floor.client.failures[f"prompt {n}"] = iter([ValidationError("not this time")])
    status = await floor.job().run()
    assert (status.totals.ok, status.totals.failed) == (20, 3)
    floor.client.calls.clear()
    status = await floor.job(retry_failed=True).run()
    assert sorted(floor.client.asked()) == ["prompt 11", "prompt 19", "prompt 3"]
    assert (status.totals.ok, status.totals.failed, status.run) == (23, 0, 3)
    floor.check_all(23)
