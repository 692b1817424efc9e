"""One contract, every session store: what a key was answered is told for 24 hours, though its session has expired."""

from __future__ import annotations

from typing import Any

import pytest
from support.sessions import NOW_US, assistant, user

from rayflow.actors.answered import ANSWERED
from rayflow.actors.outbox import Outbox
from rayflow.actors.sessions import Expiry, Sessions
from rayflow.chat import Message, Usage
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import KeyReused
from rayflow.messages import Appended, AppendTurns, DeleteSession, Erased, EraseUser, ListRecords, Payload
from rayflow.runtime.ports import ShardStore

HOUR_S = 3600.0
AN_HOUR = Expiry(HOUR_S, 0.0, 300.0)


class Keeper:
    """The store actor, in a time that passes when it is told to."""

    def __init__(self, store: ShardStore, expiry: Expiry | None = AN_HOUR) -> None:
        self.store = store
        self.clock = ManualClock(wall_us=NOW_US)
        self.expiry = expiry
        self._actor = Sessions("session/0", store, Outbox(InProcessFabric()), self.clock, expiry)

    async def ask(self, message: Payload) -> Any:
        return await self._actor.handlers[type(message)](message)

    async def append(self, run_id: str, message: Message, **more: Any) -> Appended:
        given: dict[str, Any] = {"tenant": "t", "session_id": "s", "user_id": "ada", "digest": "d", **more}
        appended: Appended = await self.ask(AppendTurns(messages=[message], run_id=run_id, **given))
        return appended

    async def turn(self, run_id: str, text: str = "x", **more: Any) -> None:
        asked = await self.append(run_id, user(text), **more)
        await self.append(
            run_id, assistant(f"to {text}"), agent="a", usage=Usage(3, 4), expected_seq=asked.last_seq, **more
        )

    async def pass_s(self, seconds: float) -> None:
        """Time passes, and what is too old by then is deleted."""
        self.clock.advance(seconds)
        if self.expiry is not None:
            await self._actor._expire(self.expiry)

    async def remembered(self) -> int:
        records = (await self.store.list_records(ListRecords(limit=1000))).records
        return sum(owned.owner.startswith(ANSWERED) for owned in records)


async def test_it_is_told_when_its_session_has_expired_and_for_a_day(store: ShardStore) -> None:
    keeper = Keeper(store)
    await keeper.turn("r1")
    await keeper.turn("r2", "y")
    await keeper.pass_s(2 * HOUR_S)
    for hours in (0, 21):
        await keeper.pass_s(hours * HOUR_S)
        again = await keeper.append("r2", user("y"))
        assert again.answer is not None
        turn = again.answer
        assert (turn.message.text, turn.seq, turn.agent, turn.usage) == ("to y", 4, "a", Usage(3, 4))
    await keeper.pass_s(2 * HOUR_S)
    assert await keeper.remembered() == 0
    assert (await keeper.append("r2", user("y"))).answer is None, "after a day it is a new request"


async def test_another_request_under_its_key_is_refused(store: ShardStore) -> None:
    keeper = Keeper(store)
    await keeper.turn("r")
    await keeper.pass_s(2 * HOUR_S)
    with pytest.raises(KeyReused):
        await keeper.append("r", user("other"), digest="d2")


async def test_tenants_and_sessions_do_not_meet(store: ShardStore) -> None:
    keeper = Keeper(store)
    await keeper.turn("r")
    await keeper.pass_s(2 * HOUR_S)
    assert (await keeper.append("r", user("x"), tenant="u")).answer is None
    assert (await keeper.append("r", user("x"), session_id="s2")).answer is None


async def test_it_is_told_where_the_session_has_begun_anew(store: ShardStore) -> None:
    keeper = Keeper(store)
    await keeper.turn("r1")
    await keeper.pass_s(2 * HOUR_S)
    await keeper.turn("r2", "y")
    again = await keeper.append("r1", user("x"))
    assert again.answer is not None
    assert again.answer.message.text == "to x"


async def test_the_log_has_the_last_word_while_it_knows_the_run(store: ShardStore) -> None:
    keeper = Keeper(store)
    asked = await keeper.append("r", user("x"))
    assert (await keeper.append("r", user("x"))).answer is None, "not answered yet"
    await keeper.append("r", assistant("half"), partial=True, expected_seq=asked.last_seq)
    assert await keeper.remembered() == 0, "a part of an answer is none"
    await keeper.append("r", assistant("whole"))
    again = await keeper.append("r", user("x"))
    assert again.answer is not None
    assert (again.answer.message.text, again.answer.seq) == ("whole", 3)


async def test_an_answer_whose_keeping_was_cut_off_is_kept_by_its_repetition(store: ShardStore) -> None:
    keeper = Keeper(store)
    append = AppendTurns("t", "s", [user("x")], "r", digest="d")
    await store.append(append, NOW_US)
    await store.append(AppendTurns("t", "s", [assistant("to x")], "r", digest="d"), NOW_US)
    assert (await keeper.append("r", user("x"))).answer is not None
    await keeper.pass_s(2 * HOUR_S)
    assert (await keeper.append("r", user("x"))).answer is not None


async def test_it_goes_with_what_is_deleted_and_erased(store: ShardStore) -> None:
    keeper = Keeper(store)
    for session, who in (("s1", "ada"), ("s2", "ada"), ("s3", "bob"), ("s4", "ada")):
        await keeper.turn("r", session_id=session, user_id=who)
    await keeper.turn("r", session_id="s5", tenant="u")
    await keeper.ask(DeleteSession("t", "s1"))
    assert await keeper.remembered() == 4
    await keeper.pass_s(2 * HOUR_S)
    assert await keeper.ask(EraseUser("t", "ada")) == Erased(0, 2)
    assert await keeper.remembered() == 2
    assert (await keeper.append("r", user("x"), session_id="s2")).answer is None
    assert (await keeper.append("r", user("x"), session_id="s3", user_id="bob")).answer is not None
    assert (await keeper.append("r", user("x"), session_id="s5", tenant="u")).answer is not None


@pytest.mark.parametrize("expiry", [None, Expiry(0.0, 0.0, 300.0), Expiry(24 * HOUR_S, 48 * HOUR_S, 300.0)])
async def test_sessions_that_last_longer_need_no_such_record(store: ShardStore, expiry: Expiry | None) -> None:
    keeper = Keeper(store, expiry)
    await keeper.turn("r")
    assert await keeper.remembered() == 0


async def test_a_request_without_a_key_leaves_none(store: ShardStore) -> None:
    keeper = Keeper(store)
    await keeper.turn("r", digest="")
    assert await keeper.remembered() == 0
