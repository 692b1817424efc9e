"""A coordinator dies; the next one finds everybody where they were."""

from __future__ import annotations

import asyncio

import pytest
from actor_doubles import PATIENCE_S, config, settle
from worlds import World, world

from rayflow.config.transfer import dump
from rayflow.errors import Unavailable
from rayflow.messages import Ping, Reconfigure, Shutdown
from rayflow.runtime.roster import COORDINATOR, node_address

ALL = ["eventlog/0", "session/0", "aggregator/0", "agent/a/0", "router/0"]


async def epochs(w: World) -> dict[str, int]:
    return {address: actor.epoch for address, actor in (await w.actors()).items() if address in ALL}


async def test_all_children_are_adopted_and_none_is_spawned() -> None:
    async with world() as w:
        await w.launch()
        await w.kill("router/0")
        await w.until("router/0", "ready")
        before, processes, starts = await epochs(w), dict(w.machine.tasks), w.order("start")
        await w.kill_coordinator()
        await w.coordinate()
        status = await w.launch()
        assert status.state == "ready"
        assert await epochs(w) == before
        assert w.machine.tasks == processes
        assert w.order("start") == starts
        assert (await w.actors())["router/0"].restarts == 1, "what it went through is not forgotten"
        assert "system.adopted" in await w.kinds(COORDINATOR)


async def test_nobody_sees_the_system_shrink_meanwhile() -> None:
    async with world() as w:
        await w.launch()
        before = w.coordinator._membership.directory
        await w.kill_coordinator()
        await w.coordinate()
        after = w.coordinator._membership.directory
        assert sorted(e.address for e in after.entries) == sorted(e.address for e in before.entries)
        assert after.version > before.version


async def test_who_died_meanwhile_is_replaced_under_a_new_epoch() -> None:
    async with world() as w:
        await w.launch()
        await w.kill_coordinator()
        await w.backend.kill("agent/a/0", 1)
        await w.coordinate()
        await w.launch()
        assert await epochs(w) == {**dict.fromkeys(ALL, 1), "agent/a/0": 2}
        assert (await w.kinds("agent/a/0"))[-3:] == ["actor.lost", "actor.restarted", "actor.started"]


async def test_who_dies_after_the_adoption_is_replaced_as_ever() -> None:
    async with world() as w:
        await w.launch()
        await w.kill_coordinator()
        await w.coordinate()
        await w.kill("agent/a/0")
        await w.until("agent/a/0", "ready")
        assert await epochs(w) == {**dict.fromkeys(ALL, 1), "agent/a/0": 2}


async def test_a_coordinator_that_dies_in_the_middle_of_the_start_is_followed_by_one_that_finishes_it() -> None:
    async with world() as w:
        w.slow["session/0"] = asyncio.Event()
        launching = asyncio.create_task(w.launch())
        await w.until_started("session/0")
        await w.kill_coordinator()
        await asyncio.gather(launching, return_exceptions=True)
        await w.coordinate()
        launching = asyncio.create_task(w.launch())
        await settle()
        w.slow["session/0"].set()
        # What it told the dead coordinator is lost: it says so again when it joins the new one.
        await w.rejoin("session/0", 1)
        assert (await launching).state == "ready"
        assert w.order("start") == ALL


async def test_an_epoch_is_on_record_before_its_process_is_spawned() -> None:
    async with world() as w:
        spawn = w.backend.spawn
        recorded: list[bool] = []

        async def watched(address: str, role: str, epoch: int) -> None:
            recorded.append(w.record.load()[f"epoch/{address}"] == str(epoch).encode())
            await spawn(address, role, epoch)

        w.backend.spawn = watched  # type: ignore[method-assign]
        await w.launch()
        await w.kill("router/0")
        await w.until("router/0", "ready")
        assert recorded == [True] * 6


async def test_a_shutdown_goes_on() -> None:
    async with world() as w:
        await w.launch()
        w.stuck.add("router/0")
        leaving = asyncio.create_task(w.fabric.ask(COORDINATOR, Shutdown("test", 0.1), PATIENCE_S))
        await w.until("router/0", "stopping")
        await w.kill_coordinator()
        await asyncio.gather(leaving, return_exceptions=True)
        await w.coordinate()
        assert await w.shutdown() == []
        assert not w.machine.tasks


async def test_a_client_is_remembered_and_one_that_left_meanwhile_is_forgotten() -> None:
    async with world() as w:
        await w.launch()
        await w.guest("client/1")
        await w.guest("client/2")
        await w.kill_coordinator()
        w.fabric.unbind(node_address("client/2", 0))
        await w.coordinate()
        await settle()
        states = await w.status()
        assert states["client/1"] == "ready"
        assert "client/2" not in states


async def test_a_reconfiguration_that_was_decided_is_finished() -> None:
    async with world() as w:
        await w.launch()
        w.slow["agent/a/0"] = asyncio.Event()
        target = w.config.model_copy(update={"agents": config({"name": "a", "goal": "more"}).agents})
        rolling = asyncio.create_task(w.fabric.ask(COORDINATOR, Reconfigure(dump(target)), PATIENCE_S))
        await w.until_started("agent/a/0", 2)
        await w.kill_coordinator()
        await asyncio.gather(rolling, return_exceptions=True)
        w.slow.clear()
        await w.coordinate()
        w.config = target
        assert (await w.launch()).state in ("ready", "reconfiguring")
        async with asyncio.timeout(PATIENCE_S):
            while goals(w) != {"more"}:
                await asyncio.sleep(0.001)
        assert await epochs(w) == {**dict.fromkeys(ALL, 1), "agent/a/0": 3, "router/0": 2}
        assert set(w.machine.tasks) == set((await epochs(w)).items())


def goals(w: World) -> set[str]:
    """What the agents that live were built from, once nothing is under way any more."""
    if w.coordinator._rolling is not None:
        return set()
    return {stub.config.agents[0].goal for stub in w.living if stub.address.startswith("agent/")}


async def test_a_record_without_a_launch_is_nothing_to_adopt() -> None:
    async with world() as w:
        await w.kill_coordinator()
        await w.coordinate()
        with pytest.raises(Unavailable, match="not been launched"):
            await w.guest("client/1")
        assert (await w.launch()).state == "ready"


async def test_after_the_adoption_messages_go_where_they_went() -> None:
    async with world() as w:
        await w.launch()
        await w.kill_coordinator()
        await w.coordinate()
        await w.launch()
        assert (await w.fabric.ask("router/0", Ping(), PATIENCE_S)).address == "router/0"
