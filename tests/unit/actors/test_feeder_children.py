"""Feeders are children of the coordinator like all others, for as long as a job asks for them."""

from __future__ import annotations

import asyncio

import pytest
from actor_doubles import PATIENCE_S, settle
from worlds import World, world

from rayflow.errors import Unavailable
from rayflow.messages import KeepFeeders, Status
from rayflow.runtime.roster import COORDINATOR
from rayflow.runtime.supervision import feeders

FEEDERS = ["feeder/0", "feeder/1"]


async def keep(w: World, number: int, job: str = "job") -> None:
    await w.fabric.ask(COORDINATOR, KeepFeeders(job, number), PATIENCE_S)


async def gone(w: World) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while FEEDERS[0] in await w.status():
            await asyncio.sleep(0.001)


async def kept(w: World) -> None:
    await w.launch()
    await keep(w, 2)
    for address in FEEDERS:
        await w.until(address, "ready")


async def test_feeders_come_when_a_job_asks_and_go_when_it_does_not_need_them() -> None:
    async with world() as w:
        await kept(w)
        await keep(w, 0)
        await gone(w)
        assert set(w.order("drain")) == set(w.order("stop")) == set(FEEDERS)


async def test_feeders_of_a_job_that_is_silent_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeders, "KEEP_S", 0.1)
    async with world() as w:
        await w.launch()
        await keep(w, 2)
        await settle()
        await gone(w)


async def test_a_feeder_that_dies_is_replaced() -> None:
    async with world() as w:
        await kept(w)
        await w.kill("feeder/1")
        await settle()
        await w.until("feeder/1", "ready")
        assert w.epoch("feeder/1") == 2


async def test_feeders_outlive_the_coordinator() -> None:
    async with world() as w:
        await kept(w)
        processes = dict(w.machine.tasks)
        await w.kill_coordinator()
        await w.coordinate()
        status: Status = await w.launch()
        assert {actor.address for actor in status.actors} >= set(FEEDERS)
        await keep(w, 2)
        assert w.machine.tasks == processes
        await keep(w, 0)
        await keep(w, 0, job="")  # those for whom they were found have had their time
        await gone(w)


async def test_a_reconfiguration_leaves_feeders_alone_that_it_does_not_concern() -> None:
    async with world() as w:
        await kept(w)
        done = await w.reconfigure(w.config.model_copy(update={"description": "another one"}))
        assert not {*done.removed, *done.replaced, *done.added} & set(FEEDERS)
        processing = w.config.processing.model_copy(update={"request_timeout_s": 7.0})
        done = await w.reconfigure(w.config.model_copy(update={"processing": processing}))
        assert set(FEEDERS) < set(done.replaced) and not done.removed
        assert (await w.status())["feeder/0"] == "ready"


async def test_a_system_that_stops_has_no_feeders_any_more() -> None:
    async with world() as w:
        await kept(w)
        await w.shutdown()
        assert set(w.order("stop")[:2]) == set(FEEDERS), "they go before the routers that they send to"
        with pytest.raises(Unavailable):
            await keep(w, 2)
