"""Asks that wait: each ends exactly once, at its own deadline, under one timer."""

from __future__ import annotations

import asyncio

import pytest

from rayflow.cluster.fabric.pending import Pending
from rayflow.errors import DeadlineExceeded, PeerLost
from rayflow.messages import Ack

PATIENCE_S = 5.0


async def test_a_reply_reaches_its_ask_and_no_other() -> None:
    pending = Pending()
    (first, one), (second, two) = pending.add("a", 5), pending.add("b", 5)
    pending.answer(second, Ack())
    pending.answer(99, Ack())
    assert two.result() == Ack()
    assert not one.done()
    assert len(pending) == 1
    assert pending.forget(first) and not pending.forget(first) and not pending.forget(second)


async def test_each_ask_has_its_own_deadline_in_whatever_order_they_come() -> None:
    pending = Pending()
    asks = {name: pending.add(name, timeout_s)[1] for name, timeout_s in (("c", 0.06), ("a", 0.01), ("b", 0.03))}
    kept = pending.add("kept", 60)[1]
    ended: list[str] = []
    for name, reply in asks.items():
        reply.add_done_callback(lambda _, name=name: ended.append(name))
    for name, reply in asks.items():
        with pytest.raises(DeadlineExceeded, match=f"{name} did not answer within"):
            await asyncio.wait_for(reply, PATIENCE_S)
    assert ended == ["a", "b", "c"]
    assert not kept.done()
    pending.fail(lambda: PeerLost("x"))
    assert isinstance(kept.exception(), PeerLost)


async def test_asks_that_are_answered_in_time_need_one_timer_together() -> None:
    pending = Pending()
    number, _ = pending.add("a", 5)
    timer = pending._timer
    pending.answer(number, Ack())
    for _ in range(100):
        pending.answer(pending.add("a", 5)[0], Ack())
    assert pending._timer is timer
    pending.fail(lambda: PeerLost("x"))


async def test_when_the_connection_is_lost_all_fail_and_none_is_left() -> None:
    pending = Pending()
    replies = [pending.add("a", 5)[1] for _ in range(3)]
    replies[0].cancel()
    pending.fail(lambda: PeerLost("gone"))
    assert len(pending) == 0
    assert [type(reply.exception()) for reply in replies[1:]] == [PeerLost, PeerLost]
