from __future__ import annotations

import re
from typing import Any

import pytest

from rayflow.batch.rows import BadRow, InputRow
from rayflow.batch.spec import Inputs, JobSpec
from rayflow.batch.tasks import BadTask, Task, Tasks


def task(value: object, id: str | None = None, **facts: Any) -> Task | BadTask:
    return Tasks(JobSpec(Inputs(["x"]), **facts)).task(InputRow(4, value, id, "x", 9, 120))


def turns(made: Task | BadTask) -> list[list[tuple[str, str]]]:
    assert isinstance(made, Task), made
    return [[(message.role, message.text) for message in turn] for turn in made.turns]


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "yes?"},
    {"role": "user", "content": "two"},
]


def test_a_text_is_a_turn_and_a_list_of_texts_are_turns() -> None:
    assert turns(task({"prompt": "one"})) == [[("user", "one")]]
    assert turns(task({"turns": ["one", "two"]})) == [[("user", "one")], [("user", "two")]]


def test_a_conversation_is_replayed_without_its_answers() -> None:
    made = task({"messages": CONVERSATION})
    assert turns(made) == [[("user", "one")], [("user", "two")]]
    assert isinstance(made, Task) and made.system_prompt == "Be brief."
    assert made.texts == ["one", "two"]


def test_a_conversation_that_is_a_prompt_is_sent_as_it_stands() -> None:
    made = task({"messages": CONVERSATION}, mode="prompt")
    assert turns(made) == [[("user", "one"), ("assistant", "yes?"), ("user", "two")]]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", "expected an object"),
        ({"other": 1}, "no field prompt or"),
        ({"prompt": " "}, "blank"),
        ({"turns": []}, "empty"),
        ({"turns": ["one", 2]}, r"turns\[1\] must be a text"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role must be one of"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "no user turn"),
        ({"messages": [*CONVERSATION, {"role": "system", "content": "x"}]}, "head of a conversation"),
    ],
)
def test_what_cannot_be_sent_is_a_bad_row_that_says_why(value: object, said: str) -> None:
    made = task(value)
    assert isinstance(made, BadTask) and made.slug == "invalid-request"
    assert re.search(said, made.message)


def test_what_could_not_be_read_stays_what_it_is() -> None:
    made = task(BadRow("invalid-json", "line 9 is not JSON"))
    assert isinstance(made, BadTask)
    assert (made.slug, made.message, made.about.line, made.about.byte) == ("invalid-json", "line 9 is not JSON", 9, 120)


def test_a_row_is_known_by_its_users_id_or_by_what_decides_its_answer() -> None:
    assert task({"prompt": "one"}, id="mine").key == "mine"
    key = task({"prompt": "one", "b": 1}).key
    assert key == task({"b": 1, "prompt": "one"}).key
    assert len({key, task({"prompt": "two", "b": 1}).key, task({"prompt": "one", "b": 1}, version="2").key}) == 3
    assert key != task({"prompt": "one", "b": 1}, agent="a").key
