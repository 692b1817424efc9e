"""Locks on sessions: one holder, a lease that ends, and runs of others that wait their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.sessions import append, assistant, user

from rayflow.actors.outbox import Outbox
from rayflow.actors.sessions import Sessions
from rayflow.chat import Message
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import NotFound, SessionLocked
from rayflow.messages import Appended, AppendTurns, LockSession, SessionLock, UnlockSession
from rayflow.stores.memory import MemoryStore


class Shard:
    """A session store actor with session "s", as its clients see it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.fabric = InProcessFabric()
        self.store = MemoryStore(10)
        actor = Sessions("session/0", self.store, Outbox(self.fabric, enabled=False), self.clock)
        self.fabric.bind("session/0", actor.handlers)

    async def lock(self, session: str = "s", tenant: str = "t", **more: float | str) -> SessionLock:
        lock: SessionLock = await self.fabric.ask("session/0", LockSession(tenant, session, **more), 5.0)  # type: ignore[arg-type]
        return lock

    async def unlock(self, token: str) -> None:
        await self.fabric.ask("session/0", UnlockSession("t", "s", token), 5.0)

    async def append(self, *messages: Message, session: str = "s", lock: str = "") -> Appended:
        request = AppendTurns("t", session, list(messages or [user("x")]), lock=lock)
        appended: Appended = await self.fabric.ask("session/0", request, 5.0)
        return appended


@pytest.fixture
async def shard() -> AsyncIterator[Shard]:
    made = Shard()
    await append(made.store, user("hello"))
    await append(made.store, user("hello"), session="other")
    yield made


async def test_questions_of_others_are_refused_while_a_session_is_locked(shard: Shard) -> None:
    lock = await shard.lock(lease_s=10)
    with pytest.raises(SessionLocked) as caught:
        await shard.append()
    assert (caught.value.status, caught.value.retry_after_s) == (409, 10)
    with pytest.raises(SessionLocked):
        await shard.append(lock="lock_of_somebody \xff")
    assert (await shard.append(lock=lock.token)).last_seq == 2
    assert (await shard.append(session="other")).last_seq == 2
    await shard.unlock(lock.token)
    assert (await shard.append()).last_seq == 3


async def test_a_run_that_began_before_the_lock_still_writes_its_answer(shard: Shard) -> None:
    await shard.lock()
    assert (await shard.append(assistant("the answer"))).last_seq == 2


async def test_a_lock_ends_with_its_lease_unless_it_is_renewed(shard: Shard) -> None:
    lock = await shard.lock(lease_s=10)
    shard.clock.advance(9)
    assert (await shard.lock(token=lock.token, lease_s=5)).token == lock.token
    shard.clock.advance(4)
    with pytest.raises(SessionLocked) as caught:
        await shard.append()
    assert caught.value.retry_after_s == 1
    shard.clock.advance(1)
    assert (await shard.append()).last_seq == 2
    for late in (shard.lock(token=lock.token), shard.unlock(lock.token)):
        with pytest.raises(NotFound, match="held no more"):
            await late


async def test_there_is_one_holder(shard: Shard) -> None:
    first = await shard.lock()
    with pytest.raises(SessionLocked):
        await shard.lock()
    with pytest.raises(NotFound):
        await shard.unlock("lock_of_somebody")
    await shard.unlock(first.token)
    second = await shard.lock()
    assert second.token != first.token
    with pytest.raises(NotFound):
        await shard.unlock(first.token)


async def test_whoever_waits_gets_the_lock_when_it_is_given_back(shard: Shard) -> None:
    first = await shard.lock(lease_s=60)
    waiting = [asyncio.create_task(shard.lock(wait_s=60)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    await shard.unlock(first.token)
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    await shard.unlock(done.pop().result().token)
    assert (await left.pop()).token


async def test_whoever_waits_in_vain_is_told(shard: Shard) -> None:
    await shard.lock(lease_s=60)
    waiting = asyncio.create_task(shard.lock(wait_s=0.01))
    while not waiting.done():
        await asyncio.sleep(0.005)
        shard.clock.advance(0.01)
    assert isinstance(waiting.exception(), SessionLocked)


async def test_only_a_session_that_is_there_can_be_locked(shard: Shard) -> None:
    for elsewhere in (shard.lock("none"), shard.lock("s", "other tenant")):
        with pytest.raises(NotFound):
            await elsewhere
