from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

import pytest

from rayflow.batch.reading import CHUNK_ENTRIES, CHUNK_SIZE, Ahead
from rayflow.errors import ValidationError


def numbers(count: int, read: list[int]) -> Generator[int]:
    for n in range(count):
        read.append(n)
        yield n


async def test_everything_is_handed_out_once_and_in_order() -> None:
    read: list[int] = []
    ahead = Ahead(numbers(1000, read), lambda _: 1, asyncio.Event())
    found = []
    while (n := await ahead.next()) is not None:
        found.append(n)
    assert found == list(range(1000)) and await ahead.next() is None
    await ahead.close()


@pytest.mark.parametrize(("size", "chunk"), [(1, CHUNK_ENTRIES), (CHUNK_SIZE, 1), (CHUNK_SIZE // 4, 4)])
async def test_no_more_than_two_chunks_are_read_ahead(size: int, chunk: int) -> None:
    read: list[int] = []
    ahead = Ahead(numbers(1000, read), lambda _: size, asyncio.Event())
    assert await ahead.next() == 0
    await ahead.close()
    assert len(read) == 2 * chunk


async def test_what_goes_wrong_while_reading_is_raised_where_it_is_read() -> None:
    def broken() -> Generator[int]:
        yield 1
        raise ValidationError("broken file")

    ahead = Ahead(broken(), lambda _: CHUNK_SIZE, asyncio.Event())
    assert await ahead.next() == 1
    with pytest.raises(ValidationError):
        await ahead.next()
    await ahead.close()


async def test_whoever_is_halted_waits_for_no_reader() -> None:
    more, halted = threading.Event(), asyncio.Event()

    def slow() -> Generator[int]:
        more.wait()
        yield 1

    ahead = Ahead(slow(), lambda _: 1, halted)
    waiting = asyncio.create_task(ahead.next())
    await asyncio.sleep(0)
    halted.set()
    assert await waiting is None
    more.set()
    await ahead.close()
