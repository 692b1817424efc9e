"""Counting work, refusing it while draining, and waiting for the rest."""

from __future__ import annotations

import asyncio

import pytest
from actor_doubles import settle

from rayflow.actors.inflight import InFlight
from rayflow.errors import Unavailable


async def test_nothing_in_flight_drains_at_once() -> None:
    assert await InFlight("x/0").drain(0) == []


async def test_work_is_counted_until_it_ends_however_it_ends() -> None:
    busy = InFlight("x/0")
    with pytest.raises(RuntimeError), busy.working("one"), busy.working("two"):
        assert len(busy) == 2
        raise RuntimeError
    assert len(busy) == 0


async def test_a_drain_waits_for_what_is_in_flight_and_refuses_the_rest() -> None:
    busy = InFlight("x/0")
    with busy.working("one"):
        drain = asyncio.create_task(busy.drain(5))
        await settle()
        with pytest.raises(Unavailable, match="x/0 is draining") as caught, busy.working("two"):
            pass
        assert caught.value.retry_after_s == 1
        assert not drain.done()
    assert await drain == []


async def test_a_drain_whose_budget_is_spent_names_what_is_left() -> None:
    busy = InFlight("x/0")
    with busy.working("two"), busy.working("one"):
        assert await busy.drain(0.01) == ["one", "two"]


async def test_two_pieces_of_work_with_one_name_are_two() -> None:
    busy = InFlight("x/0")
    with busy.working("same"):
        with busy.working("same"):
            pass
        assert await busy.drain(0.01) == ["same"]
