"""Sessions that nobody uses any more."""

from __future__ import annotations

import asyncio

from support.sessions import append, user

from rayflow.actors.outbox import Outbox
from rayflow.actors.sessions import EXPIRED_AT_ONCE, Expiry, Sessions
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import Unavailable
from rayflow.events import Event
from rayflow.messages import ListSessions
from rayflow.stores.memory import MemoryStore


class Kept(Outbox):
    """Keeps the events instead of sending them."""

    def __init__(self) -> None:
        super().__init__(InProcessFabric())
        self.kept: list[Event] = []

    def emit(self, event: Event) -> None:
        self.kept.append(event)


class Store(MemoryStore):
    """Tells when it was asked to expire; fails the first `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(10_000)
        self.asked = asyncio.Event()
        self._failures = failures

    async def expire(self, now_us: int, timeout_s: float, max_s: float, limit: int = 1000) -> int:
        self._failures -= 1
        if self._failures >= 0:
            raise Unavailable("away")
        gone = await super().expire(now_us, timeout_s, max_s, limit)
        if gone < limit:
            self.asked.set()
        return gone


async def _left_after(store: Store, expiry: Expiry | None, ages_s: list[float]) -> tuple[int, list[Event]]:
    clock, outbox = ManualClock(), Kept()
    for number, age_s in enumerate(ages_s):
        await append(store, user("x"), session=f"s{number}", now_us=clock.wall_us() - round(age_s * 1e6))
    actor = Sessions("session/0", store, outbox, clock, expiry)
    await actor.start()
    if expiry is not None:
        await store.asked.wait()
    left = (await store.list(ListSessions("t", limit=10_000))).sessions
    await actor.stop()
    return len(left), outbox.kept


async def test_they_are_deleted_after_their_time_in_one_event() -> None:
    left, events = await _left_after(Store(), Expiry(3600, 0, 300), [10, 3599, 3601, 9999])
    assert left == 2
    assert [(event.kind, event.data) for event in events] == [("session.expired", {"sessions": 2})]


async def test_old_age_ends_those_in_use_too() -> None:
    left, _ = await _left_after(Store(), Expiry(0, 86_400, 300), [10, 86_401])
    assert left == 1


async def test_more_than_go_at_once_all_go() -> None:
    left, events = await _left_after(Store(), Expiry(60, 0, 300), [100.0] * (2 * EXPIRED_AT_ONCE + 7))
    assert left == 0
    assert events[0].data == {"sessions": 2 * EXPIRED_AT_ONCE + 7}


async def test_without_expiry_they_are_kept() -> None:
    left, events = await _left_after(Store(), None, [10.0**6])
    assert (left, events) == (1, [])


async def test_a_store_that_is_away_is_asked_again() -> None:
    left, _ = await _left_after(Store(failures=2), Expiry(60, 0, 0.001), [100])
    assert left == 0


async def test_nothing_expired_is_no_event() -> None:
    assert (await _left_after(Store(), Expiry(60, 0, 300), [1]))[1] == []
