"""Deltas lead from one state to another, and back."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.errors import StorageError
from rayflow.policies.state import Change, changed, diff, undone
from rayflow.policies.state.changes import identity

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.5]) | st.sampled_from("ab")
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["", "k", "l"]), inner, max_size=3),
    max_leaves=8,
)
states = st.dictionaries(st.sampled_from(["x", "y", "z"]), values, max_size=3)


@given(states, states)
def test_a_delta_applies_in_both_directions_also_after_it_was_stored(before: dict, after: dict) -> None:
    delta = msgspec.json.decode(msgspec.json.encode(diff(before, after)), type=list[Change])
    assert identity(changed(before, delta)) == identity(after)
    assert identity(undone(after, delta)) == identity(before)


@given(states)
def test_nothing_leads_from_a_state_to_itself(state: dict) -> None:
    assert diff(state, msgspec.json.decode(msgspec.json.encode(state))) == []


@given(st.lists(states, min_size=1, max_size=8), st.data())
def test_replayed_deltas_give_the_state_and_undone_ones_any_earlier_one(past: list[dict], data: st.DataObject) -> None:
    deltas = [diff(before, after) for before, after in pairwise(past)]
    state = past[0]
    for delta in deltas:
        state = changed(state, delta)
    assert identity(state) == identity(past[-1])
    version = data.draw(st.integers(0, len(past) - 1))
    for delta in reversed(deltas[version:]):
        state = undone(state, delta)
    assert identity(state) == identity(past[version])


def test_a_long_list_changes_by_its_new_item_and_an_object_by_its_key() -> None:
    before = {"log": [*range(1000)], "cart": {"tea": 1, "milk": 2}}
    after = {"log": [*range(1000), "new"], "cart": {"tea": 3, "milk": 2}}
    assert diff(before, after) == [Change("cart", "tea", [1], [3]), Change("log", 1000, [], ["new"])]


def test_numbers_and_booleans_that_python_takes_for_equal_are_different() -> None:
    assert diff({"x": 1}, {"x": True}) == [Change("x", None, [1], [True])]
    assert diff({"x": [1]}, {"x": [1.0]}) == [Change("x", 0, [1], [1.0])]


def test_what_was_handed_over_stays_as_it_is() -> None:
    before, after = {"log": [1], "cart": {"a": 1}}, {"log": [1, 2], "cart": {"b": 2}}
    changed(before, diff(before, after))
    assert (before, after) == ({"log": [1], "cart": {"a": 1}}, {"log": [1, 2], "cart": {"b": 2}})


@pytest.mark.parametrize("there", [{}, {"log": [2]}, {"log": "text"}, {"log": {"0": 1}}])
def test_a_delta_of_another_state_is_refused(there: dict) -> None:
    with pytest.raises(StorageError, match="log"):
        undone(there, diff({"log": []}, {"log": [1]}))
