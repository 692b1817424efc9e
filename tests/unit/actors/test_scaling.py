"""Pools grow, shrink and keep spares, with a coordinator whose routers say what the test wants them to see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, config, settle
from worlds import World, world

from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError, NotFound, Unavailable
from rayflow.messages import Demand, GetDemand, GetStatus, PoolDemand, PoolStatus, ScaleCapacity, Scaled, Status
from rayflow.runtime.roster import COORDINATOR

FAST = {"interval_s": 0.01, "down_delay_s": 0.05, "queue_age_s": 0.02}


def team(scaling: dict[str, Any] | None = None, **replicas: Any) -> WorkflowConfig:
    return config(
        {"name": "a", "replicas": {"min": 1, "max": 4, **replicas}},
        processing={"drain_s": 0.2},
        scaling={**FAST, **(scaling or {})},
    )


def sees(w: World, **demand: Any) -> None:
    """What the router says from now on."""
    w.answers[GetDemand] = lambda _: Demand([PoolDemand("a", **demand)])


async def pool(w: World) -> PoolStatus:
    status: Status = await w.fabric.ask(COORDINATOR, GetStatus(), PATIENCE_S)
    return status.pools[0]


def rotation(w: World) -> list[str]:
    """Who is in the directory that other processes are told."""
    entries = w.coordinator._membership.directory.entries
    return sorted(entry.address for entry in entries if entry.address.startswith("agent/a/"))


async def until_pool(w: World, *replicas: int) -> None:
    """Wait until exactly these are in the directory."""
    async with asyncio.timeout(PATIENCE_S):
        while rotation(w) != [f"agent/a/{i}" for i in replicas]:
            await asyncio.sleep(0.001)


async def until_gone(w: World, *replicas: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while {f"agent/a/{i}" for i in replicas} & (await w.status()).keys():
            await asyncio.sleep(0.001)


async def by_hand(w: World, **what: Any) -> dict[str, int]:
    scaled: Scaled = await w.fabric.ask(COORDINATOR, ScaleCapacity(**what), PATIENCE_S)
    return scaled.targets


async def decisions(w: World) -> list[tuple[int, int, str]]:
    w.coordinator._chronicle.flush()
    await settle()
    scaled = [event for event in w.events if event.kind == "pool.scaled"]
    return [(event.data["from"], event.data["to"], event.strategy) for event in scaled]


async def test_a_queue_makes_a_pool_grow_and_its_end_makes_it_shrink() -> None:
    async with world(team()) as w:
        await w.launch()
        sees(w, waiting=15)
        await until_pool(w, 0, 1, 2)
        sees(w)
        await until_pool(w, 0)
        await until_gone(w, 1, 2)
        assert (await decisions(w))[0] == (1, 3, "queue_depth")
        assert w.order("drain") == ["agent/a/2", "agent/a/1"], "one step halves it; who came last goes first"
        assert next(e.data["reason"] for e in w.events if e.kind == "pool.scaled") == (
            "15 calls wait, one replica for 5"
        )


async def test_nothing_is_ordered_twice_while_it_starts() -> None:
    async with world(team()) as w:
        await w.launch()
        w.slow["agent/a/1"] = asyncio.Event()
        sees(w, waiting=1, oldest_s=1.0)
        await w.until_started("agent/a/1")
        await asyncio.sleep(0.05)
        assert await pool(w) == PoolStatus("a", wanted=2, ready=1, starting=1, strategy="queue_depth")
        status: Status = await w.fabric.ask(COORDINATOR, GetStatus(), PATIENCE_S)
        assert status.state == "ready", "growing is no fault"
        sees(w)
        w.slow["agent/a/1"].set()
        await until_pool(w, 0)


async def test_a_pool_of_none_starts_one_for_the_first_call_and_none_is_left_when_nobody_asks() -> None:
    async with world(team(min=0)) as w:
        assert (await w.launch()).state == "ready"
        assert rotation(w) == []
        sees(w, waiting=1)
        await until_pool(w, 0)
        sees(w, arrived=1, finished=1)
        await until_pool(w)
        assert [(before, after) for before, after, _ in await decisions(w)] == [(0, 1), (1, 0)]


async def test_a_spare_is_ready_and_not_in_the_directory() -> None:
    async with world(team(spares=1)) as w:
        assert (await w.launch()).state == "ready"
        assert rotation(w) == ["agent/a/0"]
        assert await pool(w) == PoolStatus("a", wanted=1, ready=1, spares=1, strategy="queue_depth")
        assert (await w.actors())["agent/a/1"].detail == "spare"


async def test_a_spare_takes_calls_at_once_and_the_next_one_is_started_afterwards() -> None:
    async with world(team({"strategy": "manual"}, spares=1)) as w:
        await w.launch()
        w.slow["agent/a/2"] = asyncio.Event()
        assert await by_hand(w, replicas=2) == {"a": 2}
        assert rotation(w) == ["agent/a/0", "agent/a/1"], "before anything has started"
        await w.until_started("agent/a/2")
        w.slow["agent/a/2"].set()
        await w.until("agent/a/2", "ready")
        assert (await pool(w)).spares == 1


async def test_a_spare_stands_in_for_one_that_died() -> None:
    async with world(team({"strategy": "manual"}, spares=1)) as w:
        await w.launch()
        w.slow["agent/a/0"] = asyncio.Event()
        await w.kill("agent/a/0")
        await until_pool(w, 1)
        w.slow["agent/a/0"].set()
        await w.until("agent/a/0", "ready")
        assert rotation(w) == ["agent/a/1"], "who comes back is the spare now"
        assert (await pool(w)).spares == 1


async def test_shrinking_by_hand_keeps_the_spare_that_it_makes() -> None:
    async with world(team({"strategy": "manual"}, min=2, spares=1)) as w:
        await w.launch()
        await by_hand(w, replicas=3)
        await w.until("agent/a/3", "ready")
        await by_hand(w, factor=0.5)
        assert rotation(w) == ["agent/a/0", "agent/a/1"]
        await until_gone(w, 3)
        assert (await pool(w)).spares == 1
        assert w.order("drain") == ["agent/a/3"], "the one that had nothing to do"


async def test_who_goes_leaves_the_directory_before_it_is_asked_to_drain() -> None:
    async with world(team({"strategy": "manual"}, min=1)) as w:
        await w.launch()
        await by_hand(w, replicas=2)
        await until_pool(w, 0, 1)
        seen: list[list[str]] = []
        w.on_drain = lambda: seen.append(rotation(w))
        await by_hand(w, replicas=1)
        await until_gone(w, 1)
        assert seen == [["agent/a/0"]]


async def test_a_place_that_is_being_left_is_not_taken_again() -> None:
    """The next replica has another number, and the one that drains keeps its process."""
    async with world(team({"strategy": "manual"})) as w:
        await w.launch()
        await by_hand(w, replicas=2)
        await until_pool(w, 0, 1)
        w.stuck.add("agent/a/1")
        await by_hand(w, replicas=1)
        await w.until("agent/a/1", "stopping")
        await by_hand(w, replicas=2)
        await until_pool(w, 0, 2)


async def test_by_hand_is_within_the_limits_and_for_all_agents_or_one() -> None:
    async with world(config({"name": "a"}, {"name": "b", "replicas": {"min": 2}}, scaling={"strategy": "manual"})) as w:
        with pytest.raises(Unavailable):
            await by_hand(w, factor=2.0)
        await w.launch()
        assert await by_hand(w, factor=1.5) == {"a": 2, "b": 3}
        assert await by_hand(w, factor=9.0, agent="b") == {"b": 4}
        assert await by_hand(w, factor=0.01) == {"a": 1, "b": 2}
        assert (await decisions(w))[0] == (1, 2, "by hand")
        with pytest.raises(NotFound, match="no agent 'c'"):
            await by_hand(w, factor=2.0, agent="c")


async def test_where_nothing_can_be_scaled_nobody_is_asked() -> None:
    async with world(team({"strategy": "manual"})) as w:
        await w.launch()
        assert w.coordinator._scaling._loop is None
        await w.reconfigure(team())
        assert w.coordinator._scaling._loop is not None
        await w.reconfigure(team(max=1))
        assert w.coordinator._scaling._loop is None


async def test_the_next_coordinator_knows_sizes_and_spares() -> None:
    async with world(team({"strategy": "manual"}, spares=1)) as w:
        await w.launch()
        await by_hand(w, replicas=3)
        await w.until("agent/a/3", "ready")
        before, epochs = await pool(w), {a: s.epoch for a, s in (await w.actors()).items()}
        await w.kill_coordinator()
        await w.coordinate()
        assert rotation(w) == ["agent/a/0", "agent/a/1", "agent/a/2"], "a spare is not shown meanwhile"
        assert (await w.launch()).state == "ready"
        assert await pool(w) == before
        assert {a: s.epoch for a, s in (await w.actors()).items()} == epochs
        await by_hand(w, replicas=1)
        await until_pool(w, 0)


async def test_a_coordinator_that_died_while_a_replica_left_is_followed_by_one_that_lets_it_go() -> None:
    async with world(team({"strategy": "manual"})) as w:
        await w.launch()
        await by_hand(w, replicas=2)
        await until_pool(w, 0, 1)
        w.stuck.add("agent/a/1")
        await by_hand(w, replicas=1)
        await w.until("agent/a/1", "stopping")
        await w.kill_coordinator()
        await w.coordinate()
        assert (await w.launch()).state == "ready"
        await w.backend.kill("agent/a/1", 1)
        await until_gone(w, 1)
        assert w.order("start").count("agent/a/1") == 1


async def test_a_scaled_pool_keeps_its_size_through_a_reconfiguration() -> None:
    async with world(team({"strategy": "manual"})) as w:
        await w.launch()
        await by_hand(w, replicas=3)
        await until_pool(w, 0, 1, 2)
        target = config(
            {"name": "a", "goal": "more", "replicas": {"min": 1, "max": 4}},
            processing={"drain_s": 0.2},
            scaling={**FAST, "strategy": "manual"},
        )
        done = await w.reconfigure(target)
        assert done.replaced == ["agent/a/0", "agent/a/1", "agent/a/2", "router/0"]
        assert rotation(w) == ["agent/a/0", "agent/a/1", "agent/a/2"]
        assert (await w.reconfigure(team({"strategy": "manual"}, max=2))).removed == ["agent/a/2"]


async def test_what_is_decided_during_a_reconfiguration_is_done_after_it() -> None:
    async with world(team({"strategy": "manual"})) as w:
        await w.launch()
        w.slow["agent/a/0"] = asyncio.Event()
        target = config({"name": "a", "goal": "more", "replicas": {"max": 4}}, scaling={**FAST, "strategy": "manual"})
        rolling = asyncio.create_task(w.reconfigure(target))
        await w.until_started("agent/a/0", 2)
        assert await by_hand(w, replicas=2) == {"a": 2}
        await settle()
        assert "agent/a/1" not in await w.status()
        w.slow["agent/a/0"].set()
        await rolling
        await until_pool(w, 0, 1)


async def test_a_policy_that_cannot_be_loaded_is_refused_and_nothing_changes() -> None:
    async with world(team()) as w:
        await w.launch()
        with pytest.raises(ConfigurationError, match=r"scaling\.strategy"):
            await w.reconfigure(team({"strategy": "/nowhere.py:scale"}))
        assert (await pool(w)).strategy == "queue_depth"


async def test_a_replica_that_crashes_is_restarted_and_none_is_ordered_for_it() -> None:
    async with world(team()) as w:
        await w.launch()
        sees(w, waiting=10)
        await until_pool(w, 0, 1)
        await w.kill("agent/a/1")
        await w.until("agent/a/1", "ready")
        await until_pool(w, 0, 1)
        assert [(before, after) for before, after, _ in await decisions(w)] == [(1, 2)]


async def test_a_system_with_a_replica_that_drains_for_long_stops_within_its_budget() -> None:
    async with world(team({"strategy": "manual"})) as w:
        await w.launch()
        await by_hand(w, replicas=2)
        await until_pool(w, 0, 1)
        w.stuck.add("agent/a/1")
        await by_hand(w, replicas=1)
        await w.until("agent/a/1", "stopping")
        async with asyncio.timeout(PATIENCE_S):
            await w.shutdown()
        assert not w.machine.tasks
