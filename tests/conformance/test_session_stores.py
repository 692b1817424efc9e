"""One contract, every session store."""

from __future__ import annotations

import asyncio

import pytest
from support.sessions import NOW_US, append, assistant, history, texts, user

from rayflow.chat import FunctionCall, Message, ToolCall
from rayflow.errors import Conflict, NotFound
from rayflow.messages import (
    Appended,
    AppendTurns,
    CreateSession,
    DeleteSession,
    GetHistory,
    GetSession,
    Turn,
    UpdateSession,
)
from rayflow.runtime.ports import SessionStore


async def test_turns_are_numbered_from_one_and_come_back_in_order(store: SessionStore) -> None:
    first = await append(store, user("one"), user("two"), run_id="r1", user_id="ada")
    second = await append(store, assistant("three"), run_id="r1", agent="billing", now_us=NOW_US + 5)
    assert (first.last_seq, first.created, second.last_seq, second.created) == (2, True, 3, False)
    found = await history(store)
    assert [(t.seq, t.message.role, t.message.text, t.run_id, t.agent) for t in found.turns] == [
        (1, "user", "one", "r1", ""),
        (2, "user", "two", "r1", ""),
        (3, "assistant", "three", "r1", "billing"),
    ]
    assert [turn.created_us for turn in found.turns] == [NOW_US, NOW_US, NOW_US + 5]
    assert not any(turn.partial for turn in found.turns)
    info = found.info
    assert (info.session_id, info.tenant, info.user_id, info.turns) == ("s", "t", "ada", 3)
    assert (info.created_us, info.updated_us) == (NOW_US, NOW_US + 5)


async def test_a_message_comes_back_whole(store: SessionStore) -> None:
    messages = [
        Message("user", [{"type": "text", "text": "look \x00 é 🎉"}, {"type": "image_url", "image_url": {"url": "x"}}]),
        Message("assistant", None, tool_calls=[ToolCall("c1", FunctionCall("f", '{"a": 1}'))]),
        Message("tool", "", tool_call_id="c1", name="f"),
        Message("assistant", "", refusal="no"),
    ]
    await append(store, *messages)
    assert [turn.message for turn in (await history(store)).turns] == messages


async def test_an_unknown_session_is_not_found(store: SessionStore) -> None:
    for request in (
        store.get(GetSession("t", "none")),
        store.history(GetHistory("t", "none")),
        store.delete(DeleteSession("t", "none")),
    ):
        with pytest.raises(NotFound) as caught:
            await request
        assert caught.value.details == {"kind": "session", "id": "none"}


async def test_history_is_read_in_pages(store: SessionStore) -> None:
    await append(store, *(user(str(i)) for i in range(1, 8)))
    assert await texts(store, limit=3) == ["1", "2", "3"]
    assert await texts(store, after=3, limit=3) == ["4", "5", "6"]
    assert await texts(store, after=6, limit=3) == ["7"]
    assert await texts(store, after=7) == []
    assert await texts(store, after=100) == []
    assert (await history(store, after=100)).info.turns == 7


async def test_the_tail_is_the_last_turns_oldest_first(store: SessionStore) -> None:
    await append(store, *(user(str(i)) for i in range(1, 8)))
    assert await texts(store, tail=True, limit=3) == ["5", "6", "7"]
    assert await texts(store, tail=True, limit=3, after=6) == ["7"]
    assert await texts(store, tail=True, limit=100) == [str(i) for i in range(1, 8)]


async def test_the_window_is_what_was_there_before_the_append(store: SessionStore) -> None:
    assert (await append(store, user("1"), window=5)).window == []
    await append(store, user("2"), user("3"))
    window = (await append(store, user("4"), window=2)).window
    assert [(turn.seq, turn.message.text) for turn in window] == [(2, "2"), (3, "3")]
    assert [turn.seq for turn in (await append(store, user("5"), window=100)).window] == [1, 2, 3, 4]
    assert (await append(store, user("6"))).window == []


async def test_an_append_after_another_number_is_a_conflict_and_writes_nothing(store: SessionStore) -> None:
    await append(store, user("1"), expected_seq=0)
    with pytest.raises(Conflict, match="at turn 1, not 0") as caught:
        await append(store, user("2"), expected_seq=0)
    assert caught.value.details["last_seq"] == 1
    assert (await append(store, user("2"), expected_seq=1)).last_seq == 2
    assert await texts(store) == ["1", "2"]


async def test_a_session_that_is_expected_to_be_there_is_not_made(store: SessionStore) -> None:
    with pytest.raises(NotFound):
        await append(store, user("x"), expected_seq=4)
    with pytest.raises(NotFound):
        await store.get(GetSession("t", "s"))


async def test_a_repeated_append_returns_what_the_first_one_did(store: SessionStore) -> None:
    await append(store, user("before"))
    question = AppendTurns("t", "s", [user("a"), user("b")], run_id="r", window=5, expected_seq=1)
    first = await store.append(question, NOW_US)
    assert await store.append(question, NOW_US + 1) == first
    answer = AppendTurns("t", "s", [assistant("c")], run_id="r", window=5, expected_seq=3)
    answered = await store.append(answer, NOW_US + 2)
    asked_again, answered_again = await store.append(question, NOW_US + 3), await store.append(answer, NOW_US + 4)
    assert (asked_again.last_seq, asked_again.window) == (first.last_seq, first.window)
    assert (answered_again.last_seq, answered_again.window) == (answered.last_seq, answered.window)
    assert await texts(store) == ["before", "a", "b", "c"]


async def test_a_repetition_is_told_the_answer_that_the_run_has_committed(store: SessionStore) -> None:
    question = AppendTurns("t", "s", [user("a")], run_id="r")
    assert (await store.append(question, NOW_US)).answer is None
    assert (await store.append(question, NOW_US)).answer is None, "asked, not answered"
    first = await append(store, assistant("b"), run_id="r", agent="billing", expected_seq=1, now_us=NOW_US + 5)
    assert first.answer is None, "made for the first time"
    await append(store, user("next"), run_id="later")
    committed = Turn(2, assistant("b"), "r", "billing", False, NOW_US + 5)
    assert (await store.append(question, NOW_US + 9)).answer == committed


async def test_a_repeated_answer_is_told_the_one_that_stands(store: SessionStore) -> None:
    await append(store, user("a"), run_id="r")
    await append(store, assistant("b"), run_id="r", agent="billing", expected_seq=1)
    for expected in (-1, 1):
        again = await append(store, assistant("other"), run_id="r", agent="facts", expected_seq=expected)
        assert (again.last_seq, again.answer) == (2, Turn(2, assistant("b"), "r", "billing", False, NOW_US))
    assert await texts(store) == ["a", "b"]


async def test_an_incomplete_turn_is_no_answer(store: SessionStore) -> None:
    await append(store, user("a"), run_id="r")
    await append(store, assistant("b"), run_id="r", partial=True)
    assert (await append(store, user("a"), run_id="r")).answer is None
    assert (await append(store, assistant("b"), run_id="r")).answer is None


async def test_a_question_that_ends_with_the_assistants_words_is_not_its_own_answer(store: SessionStore) -> None:
    asked = [user("a rhyme"), assistant("roses are")]
    await append(store, *asked, run_id="r")
    assert (await append(store, *asked, run_id="r")).answer is None
    answer = await append(store, assistant("red"), run_id="r", expected_seq=2)
    assert (answer.last_seq, answer.answer) == (3, None)
    for again in (
        await append(store, *asked, run_id="r"),
        await append(store, assistant("red"), run_id="r", expected_seq=2),
    ):
        assert again.answer is not None
        assert (again.answer.seq, again.answer.message.text) == (3, "red")
    assert await texts(store) == ["a rhyme", "roses are", "red"]


async def test_an_answer_is_written_although_the_question_quotes_the_assistant(store: SessionStore) -> None:
    """A client may open a session with a whole conversation: its assistant turns are not this run's answer."""
    asked = [user("a"), assistant("b"), user("c")]
    await append(store, *asked, run_id="r")
    assert (await append(store, assistant("d"), run_id="r")).last_seq == 4
    assert (await append(store, assistant("d"), run_id="r")).last_seq == 4
    assert (await append(store, *asked, run_id="r")).last_seq == 3
    assert await texts(store) == ["a", "b", "c", "d"]


async def test_a_long_question_is_recognised_when_it_is_repeated(store: SessionStore) -> None:
    long = [user(str(i)) for i in range(200)]
    await append(store, *long, run_id="r")
    await append(store, assistant("x"), run_id="r")
    assert (await append(store, *long, run_id="r")).last_seq == 200
    assert (await history(store)).info.turns == 201


async def test_appends_without_a_run_are_never_taken_for_repeats(store: SessionStore) -> None:
    await append(store, user("same"))
    assert (await append(store, user("same"))).last_seq == 2


async def test_runs_are_told_apart(store: SessionStore) -> None:
    for run in ("r1", "r2"):
        await append(store, user("same"), run_id=run)
        await append(store, assistant("same"), run_id=run)
    assert (await history(store)).info.turns == 4


async def test_tenants_do_not_see_each_other(store: SessionStore) -> None:
    await append(store, user("mine"), tenant="one")
    await append(store, user("yours"), tenant="two")
    assert await texts(store, tenant="one") == ["mine"]
    await store.delete(DeleteSession("one", "s"))
    assert await texts(store, tenant="two") == ["yours"]
    with pytest.raises(NotFound):
        await store.get(GetSession("three", "s"))


async def test_a_created_session_is_empty_and_keeps_its_facts(store: SessionStore) -> None:
    made = await store.create(CreateSession("t", "s", "ada", {"plan": {"tier": 2}}), NOW_US)
    assert made == await store.get(GetSession("t", "s"))
    assert (made.turns, made.user_id, made.metadata, made.created_us) == (0, "ada", {"plan": {"tier": 2}}, NOW_US)
    appended = await append(store, user("1"), expected_seq=0, window=3)
    assert (appended.last_seq, appended.created, appended.window) == (1, False, [])
    assert (await store.get(GetSession("t", "s"))).metadata == {"plan": {"tier": 2}}


async def test_an_id_that_is_taken_cannot_be_created(store: SessionStore) -> None:
    await append(store, user("1"))
    with pytest.raises(Conflict, match="exists already"):
        await store.create(CreateSession("t", "s"), NOW_US)
    await store.create(CreateSession("other", "s"), NOW_US)


async def test_a_deleted_session_leaves_nothing_and_its_id_begins_anew(store: SessionStore) -> None:
    await append(store, user("1"), run_id="r")
    await store.delete(DeleteSession("t", "s"))
    with pytest.raises(NotFound):
        await history(store)
    again = await append(store, user("1"), run_id="r", window=5)
    assert (again.last_seq, again.created, again.window) == (1, True, [])


async def test_writers_of_many_sessions_at_once_keep_their_own_order(store: SessionStore) -> None:
    async def write(session: str) -> None:
        for i in range(20):
            assert (await append(store, user(str(i)), session=session, expected_seq=i)).last_seq == i + 1

    await asyncio.gather(*(write(f"s{n}") for n in range(20)))
    for n in range(20):
        assert await texts(store, session=f"s{n}") == [str(i) for i in range(20)]


async def test_of_many_writers_that_expect_one_number_one_wins(store: SessionStore) -> None:
    tries = [append(store, user(str(i)), expected_seq=0) for i in range(10)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 9
    assert (await history(store)).info.turns == 1


@pytest.mark.parametrize("bad", [{"user_id": "\ud800"}, {"run_id": "\ud800"}, {"agent": "\ud800"}])
async def test_text_that_cannot_be_stored_harms_nobody_else(store: SessionStore, bad: dict[str, str]) -> None:
    outcomes = await asyncio.gather(
        append(store, user("1"), session="before"),
        append(store, user("1"), session="bad", **bad),
        append(store, user("1"), session="after"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in (outcomes[0], outcomes[2])] == [Appended, Appended]
    if isinstance(outcomes[1], Exception):
        with pytest.raises(NotFound):
            await history(store, "bad")
    assert await texts(store, session="after") == ["1"]


async def test_an_append_tells_whether_the_head_was_changed_since(store: SessionStore) -> None:
    assert (await append(store, user("1"), run_id="r1")).version == 1
    info = await store.update(UpdateSession("t", "s", title="new"), NOW_US)
    assert (await append(store, user("2"), run_id="r2")).version == info.version == 2
    assert (await append(store, user("2"), run_id="r2")).version == 2
    assert (await append(store, assistant("3"), run_id="r2")).version == 2
