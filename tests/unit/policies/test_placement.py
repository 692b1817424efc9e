"""Rendezvous hashing: everybody finds the same owner, keys spread, and few of them move."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.messages.records import TENANT, of_session, of_user
from rayflow.policies.placement import owner, record_shard, shard_addresses

KEYS = [f"sess_{i:032x}" for i in range(2000)]
nodes_of = st.lists(st.text(max_size=80), min_size=1, max_size=8, unique=True)


@given(st.text(max_size=40), nodes_of, st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_does_not_matter(key: str, nodes: list[str], rng: random.Random) -> None:
    shuffled = list(nodes)
    rng.shuffle(shuffled)
    assert owner(key, nodes) == owner(key, shuffled)


@given(st.text(max_size=40), nodes_of)
def test_only_the_keys_of_a_node_that_leaves_move(key: str, nodes: list[str]) -> None:
    leaving, *rest = nodes
    if rest and owner(key, nodes) != leaving:
        assert owner(key, rest) == owner(key, nodes)


@pytest.mark.parametrize("name", ["router/{}", "x" * 70 + "/{}"])
def test_keys_spread_over_all_nodes(name: str) -> None:
    counts = Counter(owner(key, [name.format(i) for i in range(4)]) for key in KEYS)
    assert len(counts) == 4
    assert max(counts.values()) < 1.25 * len(KEYS) / 4


def test_a_new_node_takes_its_share_from_all_and_nothing_else_moves() -> None:
    before = {key: owner(key, shard_addresses(4)) for key in KEYS}
    after = {key: owner(key, shard_addresses(5)) for key in KEYS}
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {"session/4"}
    assert 0.15 < len(moved) / len(KEYS) < 0.25


def test_without_nodes_there_is_no_owner() -> None:
    with pytest.raises(ValueError, match="no node"):
        owner("x", [])


def test_the_records_of_a_session_lie_where_it_lies() -> None:
    shards = shard_addresses(7)
    for number in range(50):
        assert record_shard("any tenant", of_session(f"s{number}"), shards) == owner(f"s{number}", shards)


def test_the_records_of_the_same_name_in_many_tenants_are_spread() -> None:
    shards = shard_addresses(4)
    assert {record_shard(f"t{number}", TENANT, shards) for number in range(50)} == set(shards)
    assert {record_shard("t", of_user(f"u{number}"), shards) for number in range(50)} == set(shards)
