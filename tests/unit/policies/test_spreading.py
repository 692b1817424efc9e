"""Processes go where the fewest are; what owns files stays with them."""

from __future__ import annotations

import pytest

from rayflow.policies.spreading import Node, spread

HOME, AWAY = Node("home", "10.0.0.1", 4), Node("away", "10.0.0.2", 1)


def test_a_process_goes_where_the_fewest_are() -> None:
    assert spread("agent", [HOME, AWAY], "home") is AWAY


def test_a_pool_is_spread_before_machines_are_evened_out() -> None:
    full, empty = Node("full", processes=9, siblings=0), Node("empty", processes=1, siblings=1)
    assert spread("agent", [full, empty], "full") is full


@pytest.mark.parametrize("role", ["session", "eventlog"])
def test_what_owns_files_stays_with_the_state_folder(role: str) -> None:
    assert spread(role, [HOME, AWAY], "home") is HOME


def test_what_owns_files_goes_elsewhere_when_its_node_is_gone() -> None:
    assert spread("session", [AWAY], "home") is AWAY


def test_a_tie_is_broken_the_same_way_everywhere() -> None:
    nodes = [Node("b"), Node("a")]
    assert spread("router", nodes, "") == spread("router", nodes[::-1], "") == Node("a")


def test_no_node_is_an_error() -> None:
    with pytest.raises(ValueError, match="no node"):
        spread("agent", [], "home")
