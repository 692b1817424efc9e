"""One contract, both books; and what SQLite adds: nothing acknowledged is lost, and one owner."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rayflow.errors import Fenced, StorageError
from rayflow.messages import Balance, Booking, Reservation
from rayflow.runtime.ports import Books
from rayflow.stores.books import MemoryBooks, SqliteBooks


def made(run_id: str, tokens: int = 5) -> Reservation:
    return Reservation(run_id, "t", "u", tokens, 7, 1_000)


@pytest.fixture(params=["memory", "sqlite"])
async def books(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Books]:
    found: Books = MemoryBooks() if request.param == "memory" else SqliteBooks(tmp_path / "books.sqlite")
    await found.open()
    yield found
    await found.close()


async def test_what_is_written_can_be_read(books: Books) -> None:
    balance = Balance("workflow:day", 5, 1, 20, 1 << 60)
    await books.write(Booking([balance], [made("one"), made("two")]))
    await books.write(Booking(made=[made("one", tokens=9)], gone=["two", "unknown"]))
    assert await books.reservations() == [made("one", tokens=9)]
    assert await books.balances(["workflow:day", "nobody"]) == [balance]
    assert await books.balances([]) == []


async def test_bookings_that_come_together_share_a_commit_and_keep_their_order(tmp_path: Path) -> None:
    books = SqliteBooks(tmp_path / "books.sqlite")
    await books.open()
    await asyncio.gather(*(books.write(Booking([Balance("a", 0, i, 0, 0)], [made(str(i))])) for i in range(500)))
    assert books.commits < 50
    assert (await books.balances(["a"]))[0].requests == 499
    await books.close()


async def test_another_owner_shuts_the_former_one_out(tmp_path: Path) -> None:
    zombie, successor = SqliteBooks(tmp_path / "books.sqlite"), SqliteBooks(tmp_path / "books.sqlite")
    await zombie.open()
    await zombie.write(Booking(made=[made("one")]))
    await successor.open()
    with pytest.raises(Fenced, match="books of accounts"):
        await zombie.write(Booking(made=[made("two")]))
    assert await successor.reservations() == [made("one")]
    await zombie.close()
    await successor.close()


async def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "books.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match=r"books\.sqlite"):
        await SqliteBooks(tmp_path / "books.sqlite").open()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from rayflow.messages import Booking, Reservation
from rayflow.stores.books import SqliteBooks

async def main():
    books = SqliteBooks(Path(sys.argv[1]))
    await books.open()
    for i in range(1000):
        await books.write(Booking(made=[Reservation(str(i), "t", "u", 1, 1, i)]))
        print(i, flush=True)
        if i == 40:
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED, str(tmp_path / "db")], capture_output=True, text=True
    )
    acknowledged = done.stdout.split()
    assert acknowledged[-1] == "40"
    books = SqliteBooks(tmp_path / "db")
    await books.open()
    assert {reservation.run_id for reservation in await books.reservations()} >= set(acknowledged)
    await books.close()
