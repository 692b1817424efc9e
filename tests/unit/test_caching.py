from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from rayflow.caching import Lru, Memo


def test_the_least_recently_used_entry_makes_room() -> None:
    kept: Lru[str, int] = Lru(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
    assert (kept.counts.hits, kept.counts.misses, kept.counts.stores, kept.counts.evictions) == (3, 1, 3, 1)


def test_what_is_expired_is_not_there_and_is_no_eviction() -> None:
    kept: Lru[str, int] = Lru(2)
    kept.put("a", 1, until=10)
    assert kept.get("a", 9.9) == 1
    assert kept.get("a", 10) is None
    assert len(kept) == 0 and kept.counts.evictions == 0


def test_all_together_stay_within_their_size() -> None:
    kept: Lru[str, str] = Lru(100, max_size=10)
    for name in "abc":
        kept.put(name, name, size=4)
    assert [kept.get(name) for name in "abc"] == [None, "b", "c"]
    kept.put("d", "d", size=11)
    assert kept.get("d") is None and len(kept) == 2
    kept.put("b", "B", size=1)
    assert kept.get("b") == "B" and len(kept) == 2


class Computing:
    """Doubles numbers when it is let."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.go = asyncio.Event()

    async def __call__(self, keys: Sequence[int]) -> list[int]:
        self.asked += keys
        await self.go.wait()
        return [key * 2 for key in keys]


async def test_what_is_computed_already_is_waited_for_and_not_computed_again() -> None:
    memo: Memo[int, int] = Memo(10)
    compute = Computing()
    first = asyncio.create_task(memo.get_or_compute([1, 2, 2], compute))
    second = asyncio.create_task(memo.get_or_compute([2, 3], compute))
    await asyncio.sleep(0)
    compute.go.set()
    assert await first == [2, 4, 4] and await second == [4, 6]
    assert compute.asked == [1, 2, 3]
    assert await memo.get_or_compute([3, 1], compute) == [6, 2]
    assert compute.asked == [1, 2, 3]
    assert (memo.counts.hits, memo.counts.misses) == (3, 3)


async def test_who_gives_up_waiting_spoils_it_for_nobody() -> None:
    memo: Memo[int, int] = Memo(10)
    compute = Computing()
    first = asyncio.create_task(memo.get_or_compute([1], compute))
    await asyncio.sleep(0)
    second = asyncio.create_task(memo.get_or_compute([1], compute))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    compute.go.set()
    assert await second == [2] and compute.asked == [1]


async def test_a_failure_is_told_to_all_who_wait_and_not_kept() -> None:
    memo: Memo[int, int] = Memo(10)

    async def fail(_: Sequence[int]) -> list[int]:
        raise ValueError("no")

    failed = await asyncio.gather(*(memo.get_or_compute([1], fail) for _ in range(2)), return_exceptions=True)
    assert all(isinstance(error, ValueError) for error in failed)
    compute = Computing()
    compute.go.set()
    assert await memo.get_or_compute([1], compute) == [2]


async def test_closing_stops_what_is_under_way() -> None:
    memo: Memo[int, int] = Memo(10)
    asking = asyncio.create_task(memo.get_or_compute([1], Computing()))
    await asyncio.sleep(0)
    await memo.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
