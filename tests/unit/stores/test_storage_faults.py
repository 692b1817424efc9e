"""Files that cannot be used: what is said says what, where and what to do, and nothing is overwritten."""

from __future__ import annotations

import sqlite3
from errno import EACCES, ENOSPC
from pathlib import Path

import pytest

from rayflow.chat import Message
from rayflow.errors import StorageError, StorageFull
from rayflow.messages import AppendTurns, GetHistory
from rayflow.stores.books import SqliteBooks
from rayflow.stores.sqlite import SCHEMA, SqliteStore
from rayflow.stores.sqlite_faults import fault


async def filled(path: Path, sessions: int = 1) -> None:
    store = SqliteStore(path)
    await store.open()
    for i in range(sessions):
        await store.append(AppendTurns("t", f"s{i}", [Message("user", f"marker-{i}-" * 30)]), 1)
    await store.close()


async def refused(path: Path) -> str:
    with pytest.raises(StorageError) as caught:
        await SqliteStore(path).open()
    assert caught.value.details["path"] == str(path)
    assert str(path) in caught.value.message
    return caught.value.message


async def test_the_database_of_another_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with sqlite3.connect(path) as db:
        db.execute("create table recipes (name text)")
    db.close()
    before = path.read_bytes()
    assert "is the database of something else" in await refused(path)
    assert path.read_bytes() == before


async def test_our_own_file_of_another_kind_is_refused_and_works_as_before(tmp_path: Path) -> None:
    path = tmp_path / "db"
    books = SqliteBooks(path)
    await books.open()
    await books.close()
    assert "is the database of something else" in await refused(path)
    await books.open()
    await books.close()


@pytest.mark.parametrize("version", [1, 2, 3, SCHEMA.version])
async def test_a_foreign_database_that_happens_to_have_our_version_is_refused(tmp_path: Path, version: int) -> None:
    path = tmp_path / "db"
    with sqlite3.connect(path) as db:
        db.execute("create table recipes (name text)")
        db.execute(f"pragma user_version = {version}")
    db.close()
    before = path.read_bytes()
    assert "is the database of something else" in await refused(path)
    assert path.read_bytes() == before


async def test_a_file_whose_beginning_was_overwritten_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "db"
    await filled(path)
    spoilt = b"\0" * 100 + path.read_bytes()[100:]
    path.write_bytes(spoilt)
    assert "restore it from a backup" in await refused(path)
    assert path.read_bytes() == spoilt


@pytest.mark.parametrize("page", range(1, 12))
async def test_whatever_page_is_damaged_no_turn_comes_back_wrong(tmp_path: Path, page: int) -> None:
    """Every session is either whole or refused; where not even the beginning can be read, the file is."""
    path = tmp_path / "db"
    await filled(path, 50)
    data = path.read_bytes()
    path.write_bytes(data[: page * 4096] + b"\xff" * 4096 + data[(page + 1) * 4096 :])
    store = SqliteStore(path)
    try:
        await store.open()
    except StorageError as error:
        assert str(path) in error.message
        return
    for i in range(50):
        try:
            turns = (await store.history(GetHistory("t", f"s{i}"))).turns
        except StorageError as error:
            assert "is damaged" in error.message
            assert ".recover" in error.message
        else:
            assert [turn.message.text for turn in turns] == [f"marker-{i}-" * 30]
    await store.close()


async def test_a_store_that_was_refused_opens_once_the_cause_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    await filled(path)
    (tmp_path / "kept").write_bytes(path.read_bytes())
    path.write_bytes(b"no database " * 100)
    store = SqliteStore(path)
    with pytest.raises(StorageError, match="something else lies there"):
        await store.open()
    (tmp_path / "kept").replace(path)
    await store.open()
    assert len((await store.history(GetHistory("t", "s0"))).turns) == 1
    await store.close()


async def test_a_write_that_another_program_holds_up_says_so_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await store.submit(lambda db: db.execute("pragma busy_timeout = 1").fetchall() and None, reads=True)
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("begin immediate")
    append = AppendTurns("t", "s", [Message("user", "x")])
    with pytest.raises(StorageError, match="held by another program"):
        await store.append(append, 1)
    other.execute("rollback")
    other.close()
    assert (await store.append(append, 1)).last_seq == 1
    await store.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (sqlite3.SQLITE_READONLY, "let this user write"),
        (sqlite3.SQLITE_CANTOPEN, "let this user write"),
        (sqlite3.SQLITE_IOERR | 3 << 8, "system's log"),
        (sqlite3.SQLITE_CORRUPT, "backup"),
        (sqlite3.SQLITE_NOTADB, "backup"),
        (sqlite3.SQLITE_BUSY, "another program"),
        (sqlite3.SQLITE_FULL, "free some space"),
    ],
)
def test_every_failure_says_what_where_and_what_to_do(code: int, said: str) -> None:
    error = sqlite3.OperationalError("oh")
    error.sqlite_errorcode = code
    found = fault(error, "session store", Path("/x/db"))
    assert "session store" in found.message
    assert "/x/db" in found.message
    assert said in found.message
    assert isinstance(found, StorageFull) == (code == sqlite3.SQLITE_FULL)


def test_what_the_system_refuses_is_told_apart() -> None:
    full = fault(OSError(ENOSPC, "no space"), "session store", Path("/x/db"))
    barred = fault(OSError(EACCES, "no"), "session store", Path("/x/db"))
    assert isinstance(full, StorageFull)
    assert not isinstance(barred, StorageFull)
    assert "let this user write" in barred.message
