"""What updates do to a state, and how they are refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import StateConfig, StateField
from rayflow.errors import Conflict, ValidationError
from rayflow.policies.state import StateUpdate, commutes, updated

CONFIG = StateConfig(
    fields=[
        StateField(name="stage", enum=["new", "paid", "sent"], default="new"),
        StateField(name="name", max_length=5),
        StateField(name="count", type="integer", reducer="add", default=10),
        StateField(name="total", type="number", reducer="add"),
        StateField(name="best", type="integer", reducer="max"),
        StateField(name="least", type="number", reducer="min"),
        StateField(name="log", type="list", reducer="append", max_items=20),
        StateField(name="tags", type="list", reducer="union"),
        StateField(name="cart", type="object", reducer="merge", max_items=3),
        StateField(name="done", type="boolean"),
    ],
    max_bytes=4000,
)
items = st.lists(st.integers(-3, 3) | st.sampled_from("ab") | st.booleans(), max_size=5)


def after(update: dict[str, Any] | None = None, there: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return updated(CONFIG, there or {}, StateUpdate(update or {}, **more))


def test_each_field_takes_an_update_in_as_its_reducer_says() -> None:
    there = {"name": "ann", "total": 1, "best": 3, "least": 3, "log": [1], "tags": ["a"], "cart": {"tea": 1, "milk": 2}}
    update = {
        "stage": "paid",
        "name": "bob",
        "count": 5,
        "total": 0.5,
        "best": 2,
        "least": 2,
        "log": [1],
        "tags": ["b", "a", "b"],
        "cart": {"tea": 4, "milk": None, "rye": 1},
        "done": True,
    }
    assert after(update, there) == {
        "stage": "paid",
        "name": "bob",
        "count": 15,
        "total": 1.5,
        "best": 3,
        "least": 2,
        "log": [1, 1],
        "tags": ["a", "b"],
        "cart": {"tea": 4, "rye": 1},
        "done": True,
    }
    assert there["log"] == [1]


def test_the_first_update_begins_with_the_default_or_with_nothing() -> None:
    update = {"count": 1, "total": 2, "best": -1, "log": ["x"], "tags": [1, 1], "cart": {"a": 1, "b": None}}
    assert after(update) == {"count": 11, "total": 2, "best": -1, "log": ["x"], "tags": [1], "cart": {"a": 1}}


@given(items, items)
def test_appending_twice_is_appending_all_at_once(one: list, two: list) -> None:
    assert after({"log": two}, after({"log": one})) == after({"log": one + two})


@given(st.lists(st.integers(-(2**40), 2**40), max_size=6), st.randoms())
def test_sums_and_extremes_do_not_depend_on_the_order(numbers: list[int], random: Any) -> None:
    def taken(numbers: list[int]) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for number in numbers:
            state = after({"count": number, "best": number, "least": number}, state)
        return state

    shuffled = random.sample(numbers, len(numbers))
    assert taken(shuffled) == taken(numbers)
    if numbers:
        assert taken(numbers) == {"count": 10 + sum(numbers), "best": max(numbers), "least": min(numbers)}


@given(items, items)
def test_a_union_has_each_item_once_whoever_comes_first(one: list, two: list) -> None:
    def names(state: dict[str, Any]) -> list[str]:
        return sorted(map(repr, state["tags"]))

    first, second = after({"tags": two}, after({"tags": one})), after({"tags": one}, after({"tags": two}))
    assert names(first) == names(second)
    assert names(first) == sorted(set(map(repr, one + two)))
    assert after({"tags": one}, first) == first


def test_a_value_is_replaced_whatever_the_reducer() -> None:
    assert after(replace={"count": 1, "log": []}, there={"count": 7, "log": [1]}) == {"count": 1, "log": []}


def test_fields_items_and_keys_are_removed() -> None:
    there = {"name": "ann", "log": [1, 2, True, 1], "cart": {"tea": 1, "rye": 2}}
    assert after(remove=["name"], there=there) == {"log": [1, 2, True, 1], "cart": {"tea": 1, "rye": 2}}
    assert after(remove={"log": [1], "cart": ["rye", "none"]}, there=there) == {
        "name": "ann",
        "log": [2, True],
        "cart": {"tea": 1},
    }


def test_only_some_fields_or_the_last_items_are_kept() -> None:
    there = {"name": "ann", "log": [1, 2, 3], "old": 1}
    assert after(keep_only=["log"], there=there) == {"log": [1, 2, 3]}
    assert after(keep_only=["old"], there=there) == {"old": 1}
    assert after(keep_only=[], there=there) == {}
    assert after(keep_only={"log": 2}, there=there)["log"] == [2, 3]
    assert after(keep_only={"log": 9}, there=there) == there
    assert after(keep_only={"log": 0}, there=there)["log"] == []


def test_one_update_appends_and_keeps_the_last_items() -> None:
    assert after({"log": [3]}, {"log": [1, 2]}, keep_only={"log": 2}) == {"log": [2, 3]}


@pytest.mark.parametrize(
    ("update", "param", "message"),
    [
        ({"update": {"count": "3"}}, "update.count", "expected a whole number of 64 bits, got text"),
        ({"update": {"count": True}}, "update.count", "got true"),
        ({"update": {"count": 1.0}}, "update.count", "got 1.0"),
        ({"update": {"count": 2**63 - 5}}, "update.count", "expected a whole number of 64 bits"),
        ({"update": {"log": 3}}, "update.log", "expected a list of at most 20 items, got 3"),
        ({"update": {"log": [1] * 21}}, "update.log", "got 21 items"),
        ({"update": {"stage": "lost"}}, "update.stage", "expected one of new, paid, sent, got 'lost'"),
        ({"update": {"name": "too long"}}, "update.name", "at most 5 characters, got 8 characters"),
        ({"update": {"name": None}}, "update.name", "expected text of at most 5 characters, got null"),
        ({"update": {"nam": "x"}}, "update.nam", "did you mean name?"),
        ({"update": {"zzz": "x"}}, "update.zzz", "the workflow has stage, name"),
        ({"replace": {"cart": [1]}}, "replace.cart", "expected an object of at most 3 items, got a list"),
        ({"remove": ["naem"]}, "remove.naem", "did you mean name?"),
        ({"remove": {"name": ["a"]}}, "remove.name", "expected a list or object"),
        ({"keep_only": {"cart": 1}}, "keep_only.cart", "expected a list to keep the last items of"),
        ({"keep_only": {"log": -1}}, "keep_only.log", "expected a number of items, got -1"),
        ({"keep_only": ["zzz"]}, "keep_only.zzz", "no state field is called 'zzz'"),
    ],
)
def test_a_wrong_update_names_the_field_what_was_expected_and_what_came(
    update: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        after(**update)
    assert refusal.value.details["param"] == param
    assert message in refusal.value.message


def test_a_state_that_grows_too_large_is_refused_with_its_size() -> None:
    with pytest.raises(ValidationError, match=r"more than state.max_bytes \(4000\)"):
        after({"log": ["x" * 4000]})


def test_values_that_are_no_json_are_refused() -> None:
    with pytest.raises(ValidationError, match="no JSON"):
        after({"log": [object()]})
    assert after({"log": [datetime(2026, 1, 2)]}) == {"log": ["2026-01-02T00:00:00"]}


def test_a_required_field_comes_with_the_first_update_and_stays() -> None:
    config = StateConfig(fields=[StateField(name="order", required=True), StateField(name="note")])
    for wrong, there in ((StateUpdate({"note": "x"}), {}), (StateUpdate(remove=["order"]), {"order": "7"})):
        with pytest.raises(ValidationError, match="order: expected a value: the field is required"):
            updated(config, there, wrong)
    assert updated(config, {}, StateUpdate({"order": "7"})) == {"order": "7"}


@pytest.mark.parametrize("update", [{"count": 1}, {"log": [1], "tags": [1], "best": 1, "least": 1}, {}])
def test_updates_that_only_add_are_right_whatever_others_did(update: dict[str, Any]) -> None:
    assert commutes(CONFIG, StateUpdate(update))


@pytest.mark.parametrize(
    "update",
    [
        StateUpdate({"count": 1, "name": "x"}),
        StateUpdate({"cart": {}}),
        StateUpdate({"unknown": 1}),
        StateUpdate(replace={"count": 1}),
        StateUpdate(remove=["count"]),
        StateUpdate({"log": [1]}, keep_only={"log": 1}),
        StateUpdate(keep_only=[]),
    ],
)
def test_updates_that_overwrite_depend_on_what_was_read(update: StateUpdate) -> None:
    assert not commutes(CONFIG, update)


def test_a_stored_value_that_does_not_fit_any_more_is_an_error_with_its_way_out() -> None:
    there = {"count": "many", "log": [1]}
    with pytest.raises(Conflict, match=r"state field count.*got text; give it a value with `replace`"):
        after({"count": 1}, there)
    assert after({"log": [2]}, there) == {"count": "many", "log": [1, 2]}
    assert after(replace={"count": 3}, there=there)["count"] == 3
    assert after(remove=["count"], there=there) == {"log": [1]}
