"""One contract, every session store: what happens to sessions beside turns. Facts, lists, forks, ends, moves."""

from __future__ import annotations

from typing import Any

import pytest
from support.sessions import NOW_US, append, assistant, history, texts, user

from rayflow.chat import Usage
from rayflow.errors import Conflict, KeyReused, NotFound, ValidationError
from rayflow.messages import (
    CloseSession,
    CreateSession,
    DeleteSession,
    Erased,
    EraseUser,
    ForkSession,
    GetSession,
    ImportSession,
    ListSessions,
    Position,
    RollBackRun,
    SessionInfo,
    Turn,
    UpdateSession,
)
from rayflow.runtime.ports import SessionStore

HOUR_US = 3_600_000_000


async def create(store: SessionStore, session: str = "s", now_us: int = NOW_US, **more: Any) -> SessionInfo:
    return await store.create(CreateSession(more.pop("tenant", "t"), session, **more), now_us)


async def get(store: SessionStore, session: str = "s", tenant: str = "t") -> SessionInfo:
    return await store.get(GetSession(tenant, session))


async def fork(store: SessionStore, at: int = -1, session: str = "s", child: str = "c", **more: Any) -> SessionInfo:
    return await store.fork(ForkSession(more.pop("tenant", "t"), session, child, at, **more), NOW_US + 9)


async def listed(store: SessionStore, tenant: str = "t", **more: Any) -> list[str]:
    return [info.session_id for info in (await store.list(ListSessions(tenant, **more))).sessions]


async def test_a_turn_keeps_its_cost_and_that_it_was_cut(store: SessionStore) -> None:
    await append(store, user("a"), user("b"), run_id="r", usage=Usage(3, 4, True))
    await append(store, assistant("c"), run_id="r", partial=True)
    turns = (await history(store)).turns
    assert [(turn.partial, turn.usage) for turn in turns] == [
        (False, None),
        (False, Usage(3, 4, True)),
        (True, None),
    ]


async def test_a_digest_stays_with_its_turns_and_another_one_is_refused(store: SessionStore) -> None:
    await append(store, user("a"), run_id="r", digest="d1")
    await append(store, assistant("b"), run_id="r", digest="d1")
    for i in range(100):
        await append(store, user(str(i)), run_id=f"r{i}", digest="d")
        await append(store, assistant(str(i)), run_id=f"r{i}", digest="d")
    again = await append(store, user("a"), run_id="r", digest="d1")
    assert again.last_seq == 1
    assert again.answer is not None
    assert (again.answer.message.text, again.answer.digest) == ("b", "d1")
    with pytest.raises(KeyReused):
        await append(store, user("other"), run_id="r", digest="d2")
    assert (await get(store)).turns == 202


async def test_get_or_create_returns_what_is_there(store: SessionStore) -> None:
    first = await create(store, user_id="ada", title="One", get_or_create=True)
    assert (first.title, first.user_id, first.version, first.turns) == ("One", "ada", 1, 0)
    await append(store, user("x"))
    again = await create(store, title="Two", get_or_create=True)
    assert (again.title, again.user_id, again.turns) == ("One", "ada", 1)


async def test_metadata_is_merged_and_none_removes(store: SessionStore) -> None:
    await create(store, metadata={"a": 1, "b": {"x": 1}, "c": 3}, title="T")
    info = await store.update(UpdateSession("t", "s", None, {"a": None, "b": {"y": 2}, "d": [4]}), NOW_US + 5)
    assert (info.title, info.metadata, info.version) == ("T", {"b": {"y": 2}, "c": 3, "d": [4]}, 2)
    assert info.updated_us == NOW_US + 5
    info = await store.update(UpdateSession("t", "s", "é 🎉"), NOW_US + 6)
    assert (info.title, info.metadata, info.version) == ("é 🎉", {"b": {"y": 2}, "c": 3, "d": [4]}, 3)
    assert info == await get(store)
    await append(store, user("1"))
    assert (await get(store)).metadata == info.metadata


async def test_of_two_changes_to_one_version_the_second_is_a_conflict(store: SessionStore) -> None:
    await create(store)
    await store.update(UpdateSession("t", "s", "first", expected_version=1), NOW_US)
    with pytest.raises(Conflict, match="version 2, not 1") as caught:
        await store.update(UpdateSession("t", "s", "second", expected_version=1), NOW_US)
    assert caught.value.details["version"] == 2
    assert (await get(store)).title == "first"


async def test_a_list_has_the_newest_first_in_pages(store: SessionStore) -> None:
    for name, at in (("b", 1), ("a", 1), ("d", 3), ("c", 2)):
        await create(store, name, NOW_US + at)
    await append(store, user("x"), session="a", now_us=NOW_US + 9)
    assert await listed(store) == ["d", "c", "b", "a"]
    assert await listed(store, limit=2) == ["d", "c"]
    assert await listed(store, limit=2, after=Position(NOW_US + 2, "c")) == ["b", "a"]
    assert await listed(store, after=Position(NOW_US + 1, "b")) == ["a"]
    assert await listed(store, after=Position(NOW_US + 1, "a")) == []
    [newest] = (await store.list(ListSessions("t", limit=1))).sessions
    assert newest == await get(store, "d")


async def test_a_list_holds_one_tenants_sessions_or_one_users(store: SessionStore) -> None:
    for tenant in ("t", "u", ""):
        for i, user_id in enumerate(("ada", "bob", "ada")):
            await create(store, f"{tenant}{i}", NOW_US + i, tenant=tenant, user_id=user_id)
    assert await listed(store) == ["t2", "t1", "t0"]
    assert await listed(store, user_id="ada") == ["t2", "t0"]
    assert await listed(store, "", user_id="ada", limit=1, after=Position(NOW_US + 2, "2")) == ["0"]
    assert await listed(store, user_id="eve") == []
    assert list(await store.tenants()) == ["", "t", "u"]


async def test_tenants_of_nothing_are_none(store: SessionStore) -> None:
    assert list(await store.tenants()) == []


async def test_a_fork_begins_with_the_parents_turns_and_goes_its_own_way(store: SessionStore) -> None:
    await create(store, user_id="ada", title="T", metadata={"k": 1})
    for i in range(1, 5):
        await append(store, user(str(i)), run_id=f"r{i}", agent="a")
    child = await fork(store, 2, branch_id="what if")
    assert (child.session_id, child.turns, child.forked_at, child.branch_id) == ("c", 2, 2, "what if")
    assert (child.parent_conversation_id, child.user_id, child.title, child.metadata) == ("s", "ada", "T", {"k": 1})
    assert (child.created_us, child.version) == (NOW_US + 9, 1)
    assert child == await get(store, "c")
    done = await append(store, user("other"), session="c", expected_seq=2, window=5)
    assert (done.last_seq, [turn.message.text for turn in done.window]) == (3, ["1", "2"])
    await append(store, user("5"))
    await store.update(UpdateSession("t", "s", "New", {"k": 2}), NOW_US)
    assert await texts(store) == ["1", "2", "3", "4", "5"]
    assert await texts(store, session="c") == ["1", "2", "other"]
    turns = (await history(store, "c")).turns
    assert [(turn.seq, turn.run_id, turn.agent) for turn in turns] == [(1, "r1", "a"), (2, "r2", "a"), (3, "", "")]
    assert (await get(store, "c")).metadata == {"k": 1}


async def test_forks_of_forks_are_read_in_pages_and_windows(store: SessionStore) -> None:
    await append(store, *(user(f"s{i}") for i in range(1, 7)))
    await fork(store, 4, "s", "c")
    await append(store, *(user(f"c{i}") for i in range(5, 9)), session="c")
    await fork(store, 6, "c", "g")
    await append(store, *(user(f"g{i}") for i in range(7, 9)), session="g")
    await fork(store, 3, "g", "short")
    await append(store, user("short4"), session="short")
    whole = ["s1", "s2", "s3", "s4", "c5", "c6", "g7", "g8"]
    assert await texts(store, session="g") == whole
    for after in range(9):
        assert await texts(store, session="g", after=after, limit=3) == whole[after : after + 3]
    for size in range(1, 10):
        assert await texts(store, session="g", tail=True, limit=size) == whole[-size:]
    window = (await append(store, user("g9"), session="g", window=5)).window
    assert [turn.message.text for turn in window] == whole[-5:]
    assert await texts(store, session="short") == ["s1", "s2", "s3", "short4"]


async def test_a_fork_may_begin_before_the_first_turn_or_at_the_end(store: SessionStore) -> None:
    await append(store, user("1"), user("2"))
    assert (await fork(store, 0, child="empty")).turns == 0
    assert (await fork(store, child="all")).turns == 2
    assert (await append(store, user("x"), session="empty")).last_seq == 1
    assert await texts(store, session="all") == ["1", "2"]
    assert (await get(store, "empty")).branch_id == "empty"


async def test_a_fork_is_refused_where_its_turn_is_not_or_its_id_is_taken(store: SessionStore) -> None:
    await append(store, user("1"))
    with pytest.raises(ValidationError, match="turn 2") as caught:
        await fork(store, 2)
    assert caught.value.details["param"] == "at"
    with pytest.raises(Conflict, match="exists already"):
        await fork(store, 1, child="s")
    with pytest.raises(NotFound):
        await fork(store, 1, tenant="u")
    assert await listed(store) == ["s"]


async def test_a_child_keeps_its_turns_when_its_parents_are_deleted(store: SessionStore) -> None:
    await append(store, *(user(f"s{i}") for i in range(1, 5)))
    await fork(store, 3, "s", "c")
    await append(store, user("c4"), session="c")
    await fork(store, 4, "c", "g")
    await store.delete(DeleteSession("t", "s"))
    assert await texts(store, session="c") == ["s1", "s2", "s3", "c4"]
    assert (await append(store, user("new"))).last_seq == 1, "the parent's id begins anew"
    await store.delete(DeleteSession("t", "c"))
    assert await texts(store, session="g") == ["s1", "s2", "s3", "c4"]
    await append(store, user("g5"), session="g")
    await store.delete(DeleteSession("t", "s"))
    assert await texts(store, session="g") == ["s1", "s2", "s3", "c4", "g5"]
    await store.delete(DeleteSession("t", "g"))
    assert await listed(store) == []


async def test_a_closed_session_is_readable_and_takes_no_turns(store: SessionStore) -> None:
    await append(store, user("1"), run_id="r")
    closed = await store.close_session(CloseSession("t", "s"), NOW_US + 5)
    assert (closed.closed_us, closed.turns) == (NOW_US + 5, 1)
    assert await store.close_session(CloseSession("t", "s"), NOW_US + 6) == closed
    with pytest.raises(Conflict, match="is closed"):
        await append(store, user("2"))
    assert (await append(store, user("1"), run_id="r")).last_seq == 1, "a repetition is answered"
    assert await texts(store) == ["1"]
    child = await fork(store)
    assert child.closed_us == 0
    assert (await append(store, user("2"), session="c")).last_seq == 2


async def test_what_the_last_run_added_can_be_taken_back(store: SessionStore) -> None:
    await append(store, user("1"), run_id="r1")
    await append(store, assistant("2"), run_id="r1")
    await append(store, user("3"), user("4"), run_id="r2")
    await append(store, assistant("5"), run_id="r2", partial=True)
    back = await store.roll_back(RollBackRun("t", "s", "r2"), NOW_US + 5)
    assert (back.turns, back.updated_us) == (2, NOW_US + 5)
    assert await store.roll_back(RollBackRun("t", "s", "r2"), NOW_US + 6) == back, "nothing is left to take back"
    asked = await append(store, user("again"), run_id="r2", window=1)
    assert (asked.last_seq, asked.answer, [turn.seq for turn in asked.window]) == (3, None, [2])
    assert await texts(store) == ["1", "2", "again"]


async def test_a_run_that_others_follow_cannot_be_taken_back(store: SessionStore) -> None:
    await append(store, user("1"), run_id="r1")
    await append(store, user("2"), run_id="r2")
    with pytest.raises(Conflict, match="r1") as caught:
        await store.roll_back(RollBackRun("t", "s", "r1"), NOW_US)
    assert caught.value.details["last_seq"] == 2
    assert await texts(store) == ["1", "2"]


async def test_to_take_back_a_run_takes_nothing_from_a_fork(store: SessionStore) -> None:
    await append(store, user("1"), run_id="r1")
    await append(store, user("2"), run_id="r2")
    await fork(store)
    await append(store, user("3"), session="c", run_id="r3")
    back = await store.roll_back(RollBackRun("t", "c", "r3"), NOW_US)
    assert back.turns == 2
    try:
        await store.roll_back(RollBackRun("t", "s", "r2"), NOW_US)
    except Conflict:
        assert await texts(store) == ["1", "2"]
    else:
        await append(store, user("other"), run_id="r4")
    assert await texts(store, session="c") == ["1", "2"]


async def test_a_user_is_erased_with_forks_and_nobody_else(store: SessionStore) -> None:
    for session, user_id, tenant in (("a", "ada", "t"), ("b", "ada", "t"), ("o", "bob", "t"), ("a", "ada", "u")):
        await append(store, user("x"), session=session, user_id=user_id, tenant=tenant)
    await fork(store, session="a", child="c")
    assert await store.erase(EraseUser("t", "ada")) == Erased(3)
    assert await store.erase(EraseUser("t", "ada")) == Erased(0)
    assert (await listed(store), await listed(store, "u")) == (["o"], ["a"])
    assert (await append(store, user("y"), session="a", run_id="r")).last_seq == 1


async def test_what_is_idle_or_old_expires(store: SessionStore) -> None:
    await append(store, user("x"), session="idle", now_us=NOW_US)
    await append(store, user("x"), session="old", now_us=NOW_US)
    await append(store, user("x"), session="new", now_us=NOW_US + HOUR_US)
    await append(store, user("x"), session="old", now_us=NOW_US + 2 * HOUR_US)
    now_us = NOW_US + 2 * HOUR_US + 1
    assert await store.expire(now_us, 0, 0) == 0
    assert await store.expire(now_us, 10_000, 10_000) == 0
    assert await store.expire(now_us, 5000, 0) == 1
    assert await listed(store) == ["new", "old"]
    assert await store.expire(now_us, 0, 5000) == 1
    assert await listed(store) == ["new"]


async def test_no_more_sessions_expire_at_once_than_allowed(store: SessionStore) -> None:
    for i in range(7):
        await append(store, user("x"), session=f"s{i}")
    await fork(store, session="s0", child="c")
    assert [await store.expire(NOW_US + HOUR_US, 1, 0, limit=3) for _ in range(4)] == [3, 3, 2, 0]


def exported(turns: int = 3, **more: Any) -> ImportSession:
    kept = [
        Turn(seq, assistant(str(seq)), f"r{seq}", "a", seq == 2, NOW_US + seq, Usage(seq, 1))
        for seq in range(1, turns + 1)
    ]
    facts: dict[str, Any] = {"title": "T", "version": 4, "closed_us": 7, "branch_id": "b", "forked_at": 1, **more}
    return ImportSession(SessionInfo("s", "t", "ada", NOW_US, NOW_US + 50, turns, {"k": 1}, **facts), kept)


async def test_an_import_keeps_every_fact(store: SessionStore) -> None:
    whole = exported()
    assert await store.import_session(whole) == whole.info
    found = await history(store)
    assert (found.info, found.turns) == (whole.info, whole.turns)
    assert await listed(store, user_id="ada") == ["s"]


async def test_an_import_goes_on_where_it_was_cut(store: SessionStore) -> None:
    whole = exported(5)
    page = ImportSession(whole.info, whole.turns[:2])
    assert [(await store.import_session(page)).turns for _ in range(2)] == [2, 2]
    with pytest.raises(ValidationError, match="at turn 2"):
        await store.import_session(ImportSession(whole.info, whole.turns[3:]))
    assert await store.import_session(whole) == whole.info
    assert (await history(store)).turns == whole.turns


async def test_an_imported_session_goes_on(store: SessionStore) -> None:
    whole = exported(closed_us=0)
    await store.import_session(whole)
    assert (await append(store, user("4"), expected_seq=3, window=1)).window == whole.turns[-1:]
    assert (await append(store, assistant("3"), run_id="r3")).last_seq == 3, "repetitions are recognised"
    again = await store.import_session(whole)
    assert again.turns == 4
    assert (await history(store)).turns[:3] == whole.turns


async def test_an_import_overwrites_no_other_session(store: SessionStore) -> None:
    await append(store, user("mine"), now_us=NOW_US - 1)
    with pytest.raises(Conflict, match="another one"):
        await store.import_session(exported())
    assert await texts(store) == ["mine"]


async def test_an_unknown_session_of_anybody_is_not_found(store: SessionStore) -> None:
    await append(store, user("1"), run_id="r")
    for tenant, session in (("t", "none"), ("u", "s")):
        for request in (
            store.update(UpdateSession(tenant, session, "x"), NOW_US),
            store.close_session(CloseSession(tenant, session), NOW_US),
            store.roll_back(RollBackRun(tenant, session, "r"), NOW_US),
            store.fork(ForkSession(tenant, session, "c"), NOW_US),
        ):
            with pytest.raises(NotFound) as caught:
                await request
            assert caught.value.details == {"kind": "session", "id": session}
    assert await texts(store) == ["1"]


async def test_there_is_nothing_to_rekey_while_the_key_is_the_same(store: SessionStore) -> None:
    await append(store, user("1"))
    assert await store.rekey() == 0
