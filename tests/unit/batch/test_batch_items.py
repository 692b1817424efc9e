from __future__ import annotations

import re

import pytest

from rayflow.batch.items import INPUT_FIELDS, BadItem, Item, ItemStream
from rayflow.batch.readers import Blank, Fault, Record
from rayflow.errors import BY_SLUG


def items(*values: object, fields: tuple[str, ...] = INPUT_FIELDS) -> list[Item | BadItem]:
    return list(ItemStream([Record(value) for value in values], fields))


def one(value: object) -> Item:
    [item] = items(value)
    assert isinstance(item, Item), item
    return item


def bad(value: object) -> str:
    [item] = items(value)
    assert isinstance(item, BadItem) and item.slug == "invalid-request", item
    return item.message


@pytest.mark.parametrize("name", ["prompt", "message", "input", "text"])
def test_a_text_is_a_single_turn(name: str) -> None:
    assert one({name: "Hello"}).turns == ["Hello"]


def test_a_list_of_texts_are_turns() -> None:
    assert one({"turns": ["first", "second"]}).turns == ["first", "second"]


@pytest.mark.parametrize("name", ["turns", "messages"])
def test_only_the_user_turns_of_a_conversation_are_replayed(name: str) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "intents": ["greet"]},
        {"role": "assistant", "content": "Hello!", "tool_calls": []},
        {"role": "tool", "content": "{}"},
        {"role": "user", "content": "Bye"},
    ]
    item = one({name: messages})
    assert (item.system_prompt, item.turns) == ("Be brief.", ["Hi", "Bye"])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1], "expected an object, got a list"),
        (None, "expected an object, got null"),
        ({}, "no field prompt or .* it has nothing"),
        ({"question": "x"}, "it has 'question'"),
        ({"prompt": ""}, "prompt is blank"),
        ({"prompt": " \n"}, "prompt is blank"),
        ({"prompt": 3}, "prompt must be a text, .* got a number"),
        ({"turns": []}, "turns is empty"),
        ({"turns": ["a", 1]}, r"turns\[1\] must be a text, got a number"),
        ({"turns": ["a", ""]}, r"turns\[1\] is blank"),
        ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\]\.content must be a text, got null"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\]\.role must be one of .* got 'robot'"),
        ({"messages": [{"content": "x"}]}, r"messages\[0\]\.role"),
        ({"messages": [{"role": "user", "content": "x"}, "y"]}, r"messages\[1\] must be a message"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "no user turn"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}, r"messages\[1\].*head"),
        ({"id": True, "prompt": "x"}, "id must be a text or a whole number, got a boolean"),
        ({"id": 1.5, "prompt": "x"}, "id must be .* got a number"),
        ({"id": "x" * 256, "prompt": "x"}, "id has 256 characters"),
    ],
)
def test_a_wrong_shape_says_where_and_what(value: object, reason: str) -> None:
    assert re.search(reason, bad(value))


def test_ids_are_taken_in_order_of_preference_and_default_to_the_ordinal() -> None:
    values = [
        {"custom_id": "a", "id": "b", "prompt": "x"},
        {"id": "", "conversation_id": "c", "prompt": "x"},
        {"id": None, "question_id": 81, "prompt": "x"},
        {"prompt": "x"},
    ]
    assert [item.id for item in items(*values)] == ["a", "c", "81", "4"]


def test_the_second_use_of_an_id_is_a_bad_item_that_names_the_first() -> None:
    first, second, third = items({"id": 7, "prompt": "a"}, {"id": "7", "prompt": "b"}, {"id": 8, "prompt": "c"})
    assert isinstance(first, Item) and isinstance(third, Item)
    assert isinstance(second, BadItem) and second.slug == "conflict"
    assert (second.ordinal, second.id) == (2, "7") and "'7' is already used by item 1" in second.message


def test_every_entry_but_blank_lines_gets_the_next_ordinal_and_keeps_its_place() -> None:
    entries = [
        Blank(1),
        Record({"prompt": "x"}, 2, 5),
        Fault("invalid-json", "broken", 3, 20),
        Blank(4),
        Record(7, 5, 30),
    ]
    stream = ItemStream(entries, INPUT_FIELDS)
    assert [(item.ordinal, item.line, item.byte) for item in stream] == [(1, 2, 5), (2, 3, 20), (3, 5, 30)]
    assert stream.blank_lines == 2


def test_bad_items_use_the_slugs_of_the_error_tree() -> None:
    values = items({}, {"id": 1, "prompt": "x"}, {"id": 1, "prompt": "x"})
    assert {item.slug for item in values if isinstance(item, BadItem)} <= set(BY_SLUG)


def test_a_named_field_is_the_only_one_looked_at() -> None:
    named, missing = items({"prompt": "no", "ask": "yes"}, {"prompt": "no"}, fields=("ask",))
    assert isinstance(named, Item) and named.turns == ["yes"]
    assert isinstance(missing, BadItem) and "no field ask" in missing.message


def test_a_limit_stops_reading() -> None:
    entries = iter([Record({"prompt": "x"})] * 5)
    assert len(list(ItemStream(entries, INPUT_FIELDS, limit=2))) == 2
    assert len(list(entries)) == 3
