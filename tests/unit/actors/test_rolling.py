"""A new configuration goes round: who is replaced, in which order, and what happens when it does not work."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from actor_doubles import PATIENCE_S, config, settle
from worlds import World, world

from rayflow.cluster.member import Member
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import ConfigurationError, Conflict, Unavailable
from rayflow.messages import Configure, Reconfigure, Reconfigured
from rayflow.runtime.roster import COORDINATOR, node_address

ALL = {"eventlog/0", "session/0", "aggregator/0", "agent/a/0", "router/0"}


def changed(*agents: dict[str, Any], **sections: Any) -> WorkflowConfig:
    sections.setdefault("processing", {"drain_s": 0.2})
    return config(*(agents or [{"name": "a"}]), **sections)


async def epochs(w: World) -> dict[str, int]:
    return {address: actor.epoch for address, actor in (await w.actors()).items() if actor.epoch}


async def test_only_who_reads_what_changed_is_replaced() -> None:
    async with world() as w:
        await w.launch()
        done = await w.reconfigure(changed(streaming={"flush_s": 0.5}))
        assert done == Reconfigured(replaced=["agent/a/0"])
        assert await epochs(w) == {**dict.fromkeys(ALL, 1), "agent/a/0": 2}
        assert (await w.kinds(COORDINATOR))[-1] == "system.reconfigured"


async def test_the_same_configuration_again_touches_nobody() -> None:
    async with world() as w:
        await w.launch()
        assert await w.reconfigure(w.config) == Reconfigured()
        assert await epochs(w) == dict.fromkeys(ALL, 1)


async def test_who_serves_is_stopped_only_after_its_successor_is_ready() -> None:
    async with world() as w:
        await w.launch()
        w.said.clear()
        await w.reconfigure(changed({"name": "a", "goal": "more"}))
        assert w.said == [
            (what, address) for address in ("agent/a/0", "router/0") for what in ("start", "drain", "stop")
        ]


async def test_a_store_is_stopped_before_the_next_one_opens_its_file() -> None:
    async with world() as w:
        await w.launch()
        w.said.clear()
        await w.reconfigure(changed(session={"synchronous": "NORMAL"}))
        assert w.said == [(what, "session/0") for what in ("drain", "stop", "start")]


async def test_a_new_agent_is_there_before_the_routers_send_to_it_and_an_old_one_until_they_do_not() -> None:
    async with world() as w:
        await w.launch()
        w.said.clear()
        done = await w.reconfigure(changed({"name": "b"}))
        assert done == Reconfigured(replaced=["router/0"], added=["agent/b/0"], removed=["agent/a/0"])
        order = [event for event in w.said if event[0] != "drain"]
        assert order == [
            ("start", "agent/b/0"), ("start", "router/0"), ("stop", "router/0"), ("stop", "agent/a/0"),
        ]  # fmt: skip
        assert set(await epochs(w)) == ALL - {"agent/a/0"} | {"agent/b/0"}


async def test_replicas_come_and_go_without_anybody_else_being_touched() -> None:
    async with world() as w:
        await w.launch()
        up = await w.reconfigure(changed({"name": "a", "replicas": {"min": 3}}))
        assert up == Reconfigured(added=["agent/a/1", "agent/a/2"])
        down = await w.reconfigure(changed({"name": "a"}))
        assert down == Reconfigured(removed=["agent/a/1", "agent/a/2"])
        assert await epochs(w) == dict.fromkeys(ALL, 1)
        await w.reconfigure(changed({"name": "a", "replicas": {"min": 2}}))
        assert (await epochs(w))["agent/a/1"] == 2, "an epoch is used once"


async def test_what_needs_a_restart_is_refused_by_name_and_nothing_changes() -> None:
    async with world() as w:
        await w.launch()
        with pytest.raises(ConfigurationError, match=r"session\.shards, storage\.state") as caught:
            await w.reconfigure(changed({"name": "b"}, session={"shards": 2}, storage={"state": "elsewhere"}))
        assert caught.value.details["keys"] == ["session.shards", "storage.state"]
        assert await epochs(w) == dict.fromkeys(ALL, 1)


async def test_what_is_no_configuration_is_refused() -> None:
    async with world() as w:
        await w.launch()
        with pytest.raises(ConfigurationError):
            await w.fabric.ask(COORDINATOR, Reconfigure(b'{"name": 1}'), PATIENCE_S)


async def test_a_configuration_that_does_not_work_is_taken_back() -> None:
    async with world() as w:
        await w.launch()
        w.broken_versions.add("broken")
        with pytest.raises(Unavailable, match=r"agent/a/0 did not come up: this version cannot work.*as it was"):
            await w.reconfigure(changed({"name": "a", "goal": "more"}, version="broken"))
        assert set((await w.status()).values()) == {"ready"}
        assert (await epochs(w))["agent/a/0"] == 1
        assert (await w.launch()).state == "ready", "the old configuration is the one that counts"
        done = await w.reconfigure(changed({"name": "a", "goal": "more"}))
        assert done.replaced == ["agent/a/0", "router/0"]


async def test_who_has_changed_already_goes_back_when_a_later_one_fails() -> None:
    async with world() as w:
        await w.launch()
        w.faults["router/0"] = lambda: ConfigurationError("no router like this")
        going_back = asyncio.create_task(w.reconfigure(changed({"name": "a", "goal": "more"}, {"name": "b"})))
        with pytest.raises(Unavailable, match="router/0 did not come up: no router like this"):
            await going_back
        assert set(await epochs(w)) == ALL
        assert {stub.config.agents[0].goal for stub in w.living if stub.address == "agent/a/0"} == {""}
        assert (await epochs(w))["router/0"] == 1


async def test_a_store_that_does_not_come_up_is_started_as_it_was() -> None:
    async with world() as w:
        await w.launch()
        w.broken_versions.add("broken")
        with pytest.raises(Unavailable, match="session/0 did not come up"):
            await w.reconfigure(changed(session={"synchronous": "NORMAL"}, version="broken"))
        assert set((await w.status()).values()) == {"ready"}


async def test_one_reconfiguration_at_a_time() -> None:
    async with world() as w:
        await w.launch()
        w.slow["agent/a/0"] = asyncio.Event()
        first = asyncio.create_task(w.reconfigure(changed({"name": "a", "goal": "more"})))
        await w.until_started("agent/a/0", 2)
        with pytest.raises(Conflict, match="under way"):
            await w.reconfigure(w.config)
        w.slow["agent/a/0"].set()
        assert (await first).replaced == ["agent/a/0", "router/0"]


async def test_a_reconfiguration_goes_on_when_whoever_asked_for_it_leaves() -> None:
    async with world() as w:
        await w.launch()
        w.slow["agent/a/0"] = asyncio.Event()
        asking = asyncio.create_task(w.reconfigure(changed({"name": "a", "goal": "more"})))
        await w.until_started("agent/a/0", 2)
        asking.cancel()
        await settle()
        w.slow["agent/a/0"].set()
        await w.until_started("router/0", 2)


async def test_before_the_launch_there_is_nothing_to_reconfigure() -> None:
    async with world() as w:
        with pytest.raises(Unavailable):
            await w.reconfigure(w.config)


async def test_a_shutdown_ends_a_reconfiguration() -> None:
    async with world() as w:
        await w.launch()
        w.slow["agent/a/0"] = asyncio.Event()
        rolling = asyncio.create_task(w.reconfigure(changed({"name": "a", "goal": "more"})))
        await w.until_started("agent/a/0", 2)
        await w.shutdown()
        with pytest.raises(Unavailable, match="being stopped"):
            await rolling
        assert not w.machine.tasks


async def test_processes_that_are_no_children_are_told_the_new_configuration() -> None:
    async with world() as w:
        await w.launch()
        told = await w.guest("client/1")
        target = changed(security={"max_body_bytes": 2048})
        await w.reconfigure(target)
        assert told == [Configure(dump(target))]


async def test_who_joins_later_gets_the_new_configuration() -> None:
    async with world() as w:
        await w.launch()
        target = changed(description="new")
        await w.reconfigure(target)
        member = Member(w.fabric, "client/1", "client")
        assert await member.join() == dump(target)


async def test_a_process_that_cannot_be_told_does_not_stop_the_others() -> None:
    async with world() as w:
        await w.launch()
        await w.guest("client/1")
        told = await w.guest("client/2")
        w.fabric.unbind(node_address("client/1", 0))
        assert (await w.reconfigure(changed(description="new"))) == Reconfigured()
        assert len(told) == 1
