from __future__ import annotations

import random

import pytest

from rayflow.batch.leases import Leases
from rayflow.messages import Lease


def test_ranges_are_given_in_order_and_one_that_is_taken_back_goes_first() -> None:
    leases = Leases(start=2)
    first, second = leases.give(), leases.give()
    assert first and second
    assert [(lease.range, lease.name) for lease in (first, second)] == [(0, "2-1"), (1, "2-2")]
    leases.take_back(first)
    again = leases.give()
    assert again and (again.range, again.name) == (0, "2-3")


@pytest.mark.parametrize("seed", range(20))
def test_every_range_is_finished_once_however_many_leases_are_lost(seed: int) -> None:
    rng, leases, last = random.Random(seed), Leases(1), 7
    held: list[Lease] = []
    finished: list[int] = []
    names: set[str] = set()
    while not leases.over:
        if (rng.random() < 0.5 or not held) and (lease := leases.give()) is not None:
            assert lease.name not in names
            names.add(lease.name)
            held.append(lease)
        elif held:
            lease = held.pop(rng.randrange(len(held)))
            if rng.random() < 0.3:
                leases.take_back(lease)
            else:
                finished.append(lease.range)
                leases.finish(lease)
                if lease.range >= last:  # whoever comes there finds that nothing lies beyond
                    leases.ended(last if rng.random() < 0.5 else lease.range)
    assert sorted(number for number in finished if number <= last) == list(range(last + 1))
    assert leases.give() is None
