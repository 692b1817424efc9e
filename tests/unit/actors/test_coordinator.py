"""The coordinator starts, watches, restarts and stops what the roster says, on a backend whose processes are tasks."""

from __future__ import annotations

import asyncio

import pytest
from actor_doubles import PATIENCE_S, settle
from worlds import world

from rayflow.cluster.member import Member
from rayflow.config.transfer import dump
from rayflow.errors import ConfigurationError, Conflict, Unavailable, UnknownAddress, WorkflowError
from rayflow.messages import Endpoint, GetStatus, Join, Ping, Pong, Ready, Status, Welcome
from rayflow.runtime.roster import COORDINATOR

ALL = ["eventlog/0", "session/0", "aggregator/0", "agent/a/0", "router/0"]


async def test_everything_starts_in_order_and_the_launch_says_so() -> None:
    async with world() as w:
        status = await w.launch()
        assert status.state == "ready"
        assert w.order("start") == ALL
        assert {actor.address for actor in status.actors} == {COORDINATOR, *ALL}
        assert set(ALL) < set(status.timeline)
        assert await w.fabric.ask("router/0", Ping(), PATIENCE_S) == Pong("router/0", 1)


async def test_everything_stops_in_reverse_after_a_drain() -> None:
    async with world() as w:
        await w.launch()
        w.left["agent/a/0"] = ["run_1"]
        assert await w.shutdown() == ["run_1"]
        assert w.order("drain") == w.order("stop") == ALL[::-1]
        with pytest.raises(UnknownAddress):
            await w.fabric.ask("router/0", Ping(), PATIENCE_S)


async def test_what_happens_is_in_the_log() -> None:
    async with world() as w:
        await w.launch()
        assert await w.kinds("router/0") == ["actor.started"]
        assert await w.kinds(COORDINATOR) == ["system.started"]


async def test_a_killed_actor_is_started_again() -> None:
    async with world() as w:
        await w.launch()
        await w.kill("agent/a/0")
        await settle()
        await w.until("agent/a/0", "ready")
        assert w.order("start").count("agent/a/0") == 2
        assert await w.kinds("agent/a/0") == ["actor.started", "actor.lost", "actor.restarted", "actor.started"]


async def test_an_actor_that_dies_too_often_is_parked_and_the_others_stay_up() -> None:
    async with world() as w:
        await w.launch()
        w.hasten()
        w.faults["agent/a/0"] = lambda: ConfigurationError("no key for this model")
        await w.kill("agent/a/0")
        await w.until("agent/a/0", "parked")
        states = await w.status()
        assert {state for address, state in states.items() if address != "agent/a/0"} == {"ready"}
        status: Status = await w.fabric.ask(COORDINATOR, GetStatus(), PATIENCE_S)
        assert status.state == "degraded"
        assert (await w.actors())["agent/a/0"].detail == "no key for this model; tried again in 60 s"


@pytest.mark.parametrize("failing", ["eventlog/0", "agent/a/0", "router/0"])
async def test_a_launch_that_fails_says_why_and_everything_can_be_stopped(failing: str) -> None:
    async with world() as w:
        w.faults[failing] = lambda: ConfigurationError("no key for this model")
        launching = asyncio.create_task(w.launch())
        await settle()
        w.hasten()
        with pytest.raises(Unavailable, match=f"{failing}: no key for this model"):
            await launching
        await w.shutdown()
        assert set((await w.status()).values()) <= {"stopped", "ready"}
        assert not w.machine.tasks


async def test_a_shutdown_while_starting_ends() -> None:
    async with world() as w:
        launching = asyncio.create_task(w.launch())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await w.shutdown()
        with pytest.raises(WorkflowError):
            await asyncio.wait_for(launching, PATIENCE_S)
        assert not w.machine.tasks


async def test_a_second_launch_of_the_same_workflow_says_how_it_is_and_of_another_one_is_refused() -> None:
    async with world() as w:
        first = await w.launch()
        assert {a.address: a.pid for a in (await w.launch()).actors} == {a.address: a.pid for a in first.actors}
        w.config = w.config.model_copy(update={"version": "2"})
        with pytest.raises(Conflict, match="already runs"):
            await w.launch()


async def test_before_the_launch_nobody_can_join() -> None:
    async with world() as w:
        join = Join(Endpoint("client/1", w.fabric.endpoint), 1, "client")
        with pytest.raises(Unavailable) as caught:
            await w.fabric.ask(COORDINATOR, join, PATIENCE_S)
        assert caught.value.retry_after_s == 1


async def test_a_client_is_welcomed_at_once_and_forgotten_when_it_leaves() -> None:
    async with world() as w:
        await w.launch()
        member = Member(w.fabric, "client/1", "client")
        assert await member.join() == dump(w.config)
        assert (await w.status())["client/1"] == "ready"
        await member.leave()
        await settle()
        assert "client/1" not in await w.status()


async def test_a_client_whose_connection_breaks_is_forgotten_too() -> None:
    async with world() as w:
        await w.launch()
        welcome = await w.fabric.ask(COORDINATOR, Join(Endpoint("client/1", "unix:/gone"), 1, "client"), PATIENCE_S)
        assert isinstance(welcome, Welcome)
        w.coordinator.peer_lost("unix:/gone")
        assert "client/1" not in await w.status()


async def test_a_death_is_counted_once_however_often_it_is_reported() -> None:
    async with world() as w:
        await w.launch()
        w.coordinator._on_exit("router/0", 1, "killed")
        w.coordinator._on_exit("router/0", 1, "killed")
        w.coordinator._on_exit("router/0", 0, "late")
        assert w.coordinator._supervisor.children["router/0"].restarts == 1


async def test_a_child_that_joins_again_after_its_admission_is_not_left_waiting() -> None:
    """Its first welcome was lost on the way."""
    async with world() as w:
        w.slow["router/0"] = asyncio.Event()
        launching = asyncio.create_task(w.launch())
        await w.until_started("router/0")
        join = Join(Endpoint("router/0", w.fabric.endpoint, 1), 1, "router")
        assert isinstance(await w.fabric.ask(COORDINATOR, join, PATIENCE_S), Welcome)
        w.slow["router/0"].set()
        await launching


async def test_a_process_of_an_earlier_incarnation_is_refused() -> None:
    async with world() as w:
        await w.launch()
        await w.kill("router/0")
        await w.until("router/0", "ready")
        late = Join(Endpoint("router/0", "unix:/frozen", 1), 1, "router", ready=True)
        with pytest.raises(Conflict):
            await w.fabric.ask(COORDINATOR, late, PATIENCE_S)
        w.fabric.tell(COORDINATOR, Ready("router/0", {}, 1))
        await settle()
        assert (await w.actors())["router/0"].epoch == 2


async def test_endpoints_of_the_dead_are_retired() -> None:
    async with world() as w:
        await w.launch()
        await w.fabric.ask(COORDINATOR, Join(Endpoint("client/1", "unix:/gone"), 1, "client"), PATIENCE_S)
        w.coordinator.peer_lost("unix:/gone")
        assert w.coordinator._membership.directory.retired == ["unix:/gone"]


async def test_a_parked_actor_is_tried_again() -> None:
    async with world() as w:
        await w.launch()
        w.hasten()
        w.faults["agent/a/0"] = lambda: ConfigurationError("no key for this model")
        await w.kill("agent/a/0")
        await w.until("agent/a/0", "parked")
        del w.faults["agent/a/0"]
        w.coordinator._supervisor.children["agent/a/0"].due = 0.0
        w.coordinator._set_timer()
        await w.until("agent/a/0", "ready")


async def test_a_child_that_was_given_up_on_is_killed() -> None:
    async with world() as w:
        await w.launch()
        w.stuck.add("router/0")
        await asyncio.wait_for(w.shutdown(), PATIENCE_S)
        assert w.order("stop") == ALL[::-1]


async def test_a_child_that_only_lost_its_connection_is_ended_before_another_takes_its_place() -> None:
    async with world() as w:
        await w.launch()
        first = w.machine.tasks["router/0", 1]
        w.coordinator._lose("router/0", 1, "connection lost")
        await settle()
        assert first.done()
        await w.until("router/0", "ready")
        assert set(w.machine.tasks) == {(address, 2 if address == "router/0" else 1) for address in ALL}
