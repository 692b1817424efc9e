"""Reserving a replica: bounded, in order, and no place is ever lost, whatever is cancelled when."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest
from actor_doubles import config, settle
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.actors.pools import Pools
from rayflow.clock import SYSTEM_CLOCK
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable
from rayflow.messages import PoolDemand
from rayflow.policies.balancing import Outcome


def pools(fabric: InProcessFabric, *, limit: int = 1, queue: int = 10, least: int = 1, **sections: Any) -> Pools:
    agents = [{"name": name, "replicas": {"min": least, "max_in_flight": limit}} for name in "ab"]
    team = config(*agents, processing={"max_queue": queue}, **sections)
    made = Pools(team, fabric, SYSTEM_CLOCK, random.Random(1))
    made.watch()
    return made


@pytest.fixture
def fabric() -> InProcessFabric:
    fabric = InProcessFabric()
    fabric.bind("agent/a/0", {})
    return fabric


async def reserved(made: Pools, timeout_s: float = 5.0) -> str:
    """Reserve and release at once."""
    async with made.reserve("a", timeout_s) as grant:
        return grant.replica


async def test_a_place_is_free_again_however_its_call_ended(fabric: InProcessFabric) -> None:
    made = pools(fabric)
    with pytest.raises(RuntimeError):
        async with made.reserve("a", 5):
            raise RuntimeError
    assert await reserved(made) == "agent/a/0"


async def test_an_unknown_agent_is_not_found(fabric: InProcessFabric) -> None:
    with pytest.raises(NotFound) as caught:
        async with pools(fabric).reserve("nobody", 5):
            pass
    assert caught.value.details == {"kind": "agent", "id": "nobody"}


async def test_a_full_line_is_overloaded(fabric: InProcessFabric) -> None:
    made = pools(fabric, queue=1)
    async with made.reserve("a", 5):
        waiting = asyncio.create_task(reserved(made))
        await settle()
        with pytest.raises(Overloaded) as caught:
            await reserved(made)
        assert caught.value.retry_after_s > 0
    await waiting


async def test_who_waits_too_long_is_told_so_and_leaves_the_line(fabric: InProcessFabric) -> None:
    made = pools(fabric, queue=1)
    async with made.reserve("a", 5):
        for _ in range(3):
            with pytest.raises(DeadlineExceeded, match="no replica of a became free"):
                await reserved(made, 0.01)
    assert await reserved(made) == "agent/a/0"


async def test_a_replica_to_avoid_is_passed_over(fabric: InProcessFabric) -> None:
    fabric.bind("agent/a/1", {})
    made = pools(fabric)
    for avoided, other in (("agent/a/0", "agent/a/1"), ("agent/a/1", "agent/a/0")):
        async with made.reserve("a", 5, {avoided}) as grant:
            assert grant.replica == other


async def test_who_has_waited_as_long_as_anybody_may_is_told_to_come_back(fabric: InProcessFabric) -> None:
    made = pools(fabric, admission={"max_wait_s": 0.01})
    async with made.reserve("a", 5):
        with pytest.raises(Overloaded, match="no replica of a became free") as caught:
            await reserved(made)
    assert caught.value.retry_after_s > 0
    assert (await reserved(made), made.demand()[0].waiting) == ("agent/a/0", 0)


async def test_a_call_that_cannot_be_answered_in_time_is_refused_at_once(fabric: InProcessFabric) -> None:
    made = pools(fabric)
    async with made.reserve("a", 5):
        await asyncio.sleep(0.05)
    async with made.reserve("a", 5):
        with pytest.raises(Overloaded, match="before its deadline"):
            await reserved(made, 0.03)


async def test_who_is_more_urgent_goes_first(fabric: InProcessFabric) -> None:
    made = pools(fabric)
    order: list[str] = []

    async def work(name: str, level: float) -> None:
        async with made.reserve("a", 5, level=level):
            order.append(name)

    async with made.reserve("a", 5):
        waiting = [asyncio.create_task(work(*one)) for one in (("batch", 0.0), ("interactive", 2.0))]
        await settle()
    await asyncio.gather(*waiting)
    assert order == ["interactive", "batch"]


async def test_a_session_keeps_its_replica(fabric: InProcessFabric) -> None:
    for replica in range(1, 6):
        fabric.bind(f"agent/a/{replica}", {})
    made = pools(fabric, limit=8, balancing={"strategy": "session_affinity"})
    seen = set()
    for _ in range(10):
        async with made.reserve("a", 5, key="sess_1") as place:
            seen.add(place.replica)
    assert len(seen) == 1


async def test_a_replica_whose_calls_fail_is_left_alone(fabric: InProcessFabric) -> None:
    fabric.bind("agent/a/1", {})
    made = pools(fabric, balancing={"ejection": {"consecutive_failures": 3}})
    for _ in range(3):
        async with made.reserve("a", 5, {"agent/a/0"}) as place:
            place.outcome = Outcome(False, 0.001)
    assert {await reserved(made) for _ in range(20)} == {"agent/a/0"}


async def test_without_ejection_and_without_an_outcome_nobody_is_left_alone(fabric: InProcessFabric) -> None:
    fabric.bind("agent/a/1", {})
    for ejection, outcome in (({"enabled": False}, Outcome(False, 0.001)), ({}, None)):
        made = pools(fabric, balancing={"ejection": ejection})
        for _ in range(10):
            async with made.reserve("a", 5, {"agent/a/0"}) as place:
                place.outcome = outcome
        assert {await reserved(made) for _ in range(20)} == {"agent/a/0", "agent/a/1"}


async def test_demand_is_told_for_every_agent(fabric: InProcessFabric) -> None:
    made = pools(fabric)
    async with made.reserve("a", 5):
        waiting = asyncio.create_task(reserved(made))
        await settle()
        a, b = made.demand()
        assert (a.agent, a.in_flight, a.waiting, a.arrived) == ("a", 1, 1, 2)
        assert b == PoolDemand("b")
    await waiting
    assert (made.demand()[0].finished, made.demand()[0].in_flight) == (2, 0)


async def test_the_least_loaded_agent_has_the_most_room_for_its_size(fabric: InProcessFabric) -> None:
    fabric.bind("agent/b/0", {})
    fabric.bind("agent/b/1", {})
    made = pools(fabric, limit=2)
    async with made.reserve("a", 5), made.reserve("b", 5):
        assert {made.least_loaded(["a", "b"]) for _ in range(20)} == {"b"}
    assert {made.least_loaded(["a", "b"]) for _ in range(20)} == {"a", "b"}, "a random one of equals"


async def test_an_agent_without_a_replica_is_the_last_choice(fabric: InProcessFabric) -> None:
    made = pools(fabric)
    async with made.reserve("a", 5):
        assert made.least_loaded(["b", "a"]) == "a"


async def test_an_agent_that_is_scaled_to_zero_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.actors.pools.EMPTY_POOL_S", 0.0)
    fabric = InProcessFabric()
    made = pools(fabric, least=0)
    waiting = asyncio.create_task(reserved(made))
    await settle()
    assert made.demand()[0].waiting == 1, "that is what brings a replica"
    fabric.bind("agent/a/0", {})
    assert await waiting == "agent/a/0"


async def test_an_empty_pool_is_unavailable_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.actors.pools.EMPTY_POOL_S", 0.01)
    with pytest.raises(Unavailable, match="no replica running"):
        await reserved(pools(InProcessFabric()))


async def test_a_pool_that_was_empty_and_is_busy_now_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.actors.pools.EMPTY_POOL_S", 0.05)
    fabric = InProcessFabric()
    made = pools(fabric)
    holding = made.reserve("a", 5)
    first = asyncio.create_task(holding.__aenter__())
    second = asyncio.create_task(reserved(made, 0.2))
    await settle()
    fabric.bind("agent/a/0", {})
    await first
    with pytest.raises(DeadlineExceeded):
        await second
    await holding.__aexit__(None, None, None)


async def test_a_run_cancelled_at_the_moment_its_place_comes_gives_it_on(fabric: InProcessFabric) -> None:
    made = pools(fabric)
    async with AsyncExitStack() as busy:
        await busy.enter_async_context(made.reserve("a", 5))
        waiting = [asyncio.create_task(reserved(made)) for _ in range(2)]
        await settle()
        waiting[0].cancel()
    outcome, place = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert isinstance(outcome, asyncio.CancelledError)
    assert place == "agent/a/0"


async def test_a_place_that_comes_with_the_deadline_is_not_lost(fabric: InProcessFabric) -> None:
    made = pools(fabric)
    loop = asyncio.get_running_loop()
    for _ in range(20):
        holding = made.reserve("a", 5)
        await holding.__aenter__()
        waiting = asyncio.create_task(reserved(made, 0.002))
        await asyncio.sleep(0)
        until = loop.time() + 0.002
        while loop.time() < until:
            pass
        await holding.__aexit__(None, None, None)
        await asyncio.gather(waiting, return_exceptions=True)
    assert await reserved(made) == "agent/a/0"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(0, 2**32))
def test_after_any_storm_of_cancellations_all_places_are_free(limit: int, seed: int) -> None:
    async def storm() -> None:
        rng = random.Random(seed)
        fabric = InProcessFabric()
        made = pools(fabric, limit=limit, queue=50)
        working = 0

        async def work() -> None:
            nonlocal working
            async with made.reserve("a", rng.choice([5.0, 0.001])):
                working += 1
                assert working <= limit
                try:
                    await asyncio.sleep(rng.choice([0, 0, 0.001]))
                finally:
                    working -= 1

        tasks = [asyncio.create_task(work()) for _ in range(30)]
        fabric.bind("agent/a/0", {})
        while not all(task.done() for task in tasks):
            await asyncio.sleep(rng.choice([0, 0.0005]))
            rng.choice(tasks).cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        allowed = (DeadlineExceeded, Overloaded, Unavailable, asyncio.CancelledError)
        assert all(outcome is None or isinstance(outcome, allowed) for outcome in outcomes), outcomes
        pool = made._pools["a"]
        pool.validate()
        assert (pool.in_flight, pool.waiting) == (0, 0)

    asyncio.run(storm())
