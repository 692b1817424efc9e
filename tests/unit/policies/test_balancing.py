"""The least busy replica takes the call; chance decides between equals; a full pool takes none."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.balancing import least_busy


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 5), max_size=6), st.integers(1, 5), st.integers())
def test_nobody_is_less_busy_than_the_chosen_one(loads: dict[str, int], limit: int, seed: int) -> None:
    chosen = least_busy(loads, limit, random.Random(seed))
    if chosen is None:
        assert all(load >= limit for load in loads.values())
    else:
        assert loads[chosen] == min(loads.values()) < limit


def test_chance_spreads_calls_over_equals_and_repeats_with_the_seed() -> None:
    loads = dict.fromkeys("abc", 0)

    def picks(seed: int) -> list[str | None]:
        rng = random.Random(seed)
        return [least_busy(loads, 1, rng) for _ in range(50)]

    assert set(picks(1)) == {"a", "b", "c"}
    assert picks(1) == picks(1) != picks(2)
