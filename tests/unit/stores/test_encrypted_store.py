"""A store with encryption: nothing readable on the disk, no row that can be swapped, and keys that change."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from support.sessions import append, assistant, history, texts, user

from rayflow.errors import StorageError
from rayflow.messages import CreateSession, DeleteSession, ForkSession, GetSession, ListSessions
from rayflow.stores.payloads import Payloads
from rayflow.stores.sealing import Sealer
from rayflow.stores.sqlite import SqliteStore

OLD, NEW = bytes(range(32)), bytes(range(1, 33))

Opener = Callable[..., AbstractAsyncContextManager[SqliteStore]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def opened(path: Path) -> Opener:
    """The store with these keys, the present one first."""

    @asynccontextmanager
    async def open_with(*keys: bytes) -> AsyncIterator[SqliteStore]:
        store = SqliteStore(path, payloads=Payloads(Sealer(keys) if keys else None))
        await store.open()
        yield store
        await store.close()

    return open_with


def run(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    with db:
        for statement in statements:
            db.execute(statement)
    db.close()


async def fill(store: SqliteStore, session: str = "s") -> None:
    await store.create(CreateSession("t", session, "ada", {"plan": "SECRET"}, "SECRET title"), 1)
    await append(store, user("SECRET question"), session=session, run_id="r")
    await append(store, assistant("SECRET answer"), session=session, run_id="r")


async def test_nothing_that_was_said_is_readable_in_the_file(path: Path, opened: Opener) -> None:
    async with opened(OLD) as store:
        await fill(store)
        assert b"SECRET" not in path.read_bytes() + Path(f"{path}-wal").read_bytes()
    assert b"SECRET" not in path.read_bytes()
    async with opened(OLD) as store:
        assert await texts(store) == ["SECRET question", "SECRET answer"]
        info = await store.get(GetSession("t", "s"))
        assert (info.title, info.metadata) == ("SECRET title", {"plan": "SECRET"})


@pytest.mark.parametrize(
    "tampering",
    [
        "update entries set message = (select message from entries where place = (1 << 31) + 1)"
        " where place = (1 << 31) + 2",
        "update entries set message = (select message from entries where place = (2 << 31) + 2)"
        " where place = (1 << 31) + 2",
        'update entries set message = cast(\'{"role":"assistant","content":"forged"}\' as blob)'
        " where place = (1 << 31) + 2",
        "update entries set message = substr(message, 1, length(message) - 1) where place = (1 << 31) + 2",
        "update heads set head = (select head from heads where session_id = 'other') where session_id = 's'",
        "update heads set data_key = (select data_key from heads where session_id = 'other') where session_id = 's'",
        "update heads set data_key = x'' where session_id = 's'",
    ],
)
async def test_rows_that_were_changed_or_swapped_are_refused_and_others_are_not(
    path: Path, opened: Opener, tampering: str
) -> None:
    async with opened(OLD) as store:
        await fill(store)
        await fill(store, "other")
    run(path, tampering)
    async with opened(OLD) as store:
        with pytest.raises(StorageError, match="session s is not what was written there"):
            await history(store)
        assert await texts(store, session="other") == ["SECRET question", "SECRET answer"]
        await store.delete(DeleteSession("t", "s"))
        await fill(store)
        assert await texts(store) == ["SECRET question", "SECRET answer"]


async def test_a_wrong_key_is_an_error_that_loses_nothing(opened: Opener) -> None:
    async with opened(OLD) as store:
        await fill(store)
    async with opened(NEW) as store:
        for request in (history(store), append(store, user("x"), window=1), store.list(ListSessions("t"))):
            with pytest.raises(StorageError, match=r"add the right one under session\.encryption\.previous"):
                await request
        with pytest.raises(StorageError, match="nothing was changed"):
            await append(store, user("x"))
        await fill(store, "new")
    async with opened() as store:
        with pytest.raises(StorageError, match=r"session\.encryption is not configured"):
            await history(store)
    async with opened(OLD, NEW) as store:
        assert await texts(store) == ["SECRET question", "SECRET answer"]
        assert await texts(store, session="new") == ["SECRET question", "SECRET answer"]


async def test_keys_are_changed_while_the_store_is_in_use(opened: Opener) -> None:
    async with opened(OLD) as store:
        for i in range(25):
            await fill(store, f"s{i}")
        await store.fork(ForkSession("t", "s0", "c", 1), 2)
        await store.delete(DeleteSession("t", "s0"))
    async with opened(NEW, OLD) as store:
        done = [await store.rekey(10)]
        await fill(store, "meanwhile")
        assert await texts(store, session="s3") == ["SECRET question", "SECRET answer"]
        done += [await store.rekey(10) for _ in range(3)]
        assert done == [10, 10, 6, 0]
    async with opened(NEW) as store:
        for session in (*(f"s{i}" for i in range(1, 25)), "meanwhile"):
            assert await texts(store, session=session) == ["SECRET question", "SECRET answer"]
        assert await texts(store, session="c") == ["SECRET question"]
        assert len((await store.list(ListSessions("t"))).sessions) == 26


async def test_encryption_can_be_switched_on_for_what_is_there(path: Path, opened: Opener) -> None:
    async with opened() as store:
        await fill(store)
        await store.fork(ForkSession("t", "s", "c", 1), 2)
        await append(store, user("SECRET own"), session="c")
    async with opened(NEW) as store:
        assert await texts(store, session="c") == ["SECRET question", "SECRET own"]
        assert await store.rekey() == 2
        assert await store.rekey() == 0
        await append(store, user("SECRET more"))
        assert await texts(store) == ["SECRET question", "SECRET answer", "SECRET more"]
        assert await texts(store, session="c") == ["SECRET question", "SECRET own"]
        assert (await store.get(GetSession("t", "s"))).title == "SECRET title"
    assert b"SECRET" not in path.read_bytes()
