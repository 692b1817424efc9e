"""Records in stores with encryption: nothing readable, nothing that can be swapped, and keys that change."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from uuid import uuid4

import pytest
from support.sessions import NOW_US, append, user

from rayflow.errors import StorageError
from rayflow.messages import EraseRecords, ListRecords, ReadRecords, RecordWrite, WriteRecords
from rayflow.messages.records import of_session, of_user
from rayflow.runtime.ports import ShardStore
from rayflow.stores.payloads import Payloads
from rayflow.stores.sealing import Sealer
from rayflow.stores.servers.database import Place
from rayflow.stores.servers.rows import Rows
from rayflow.stores.servers.store import ServerStore
from rayflow.stores.sqlite import SqliteStore

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
ADA = of_user("ada")

Opener = Callable[..., AbstractAsyncContextManager[ShardStore]]


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """The store with these keys, the present one first."""
    place = Place(uuid4().hex, 0, 1)

    def store(payloads: Payloads) -> SqliteStore | ServerStore:
        if request.param == "sqlite":
            return SqliteStore(tmp_path / "db", payloads=payloads)
        if request.param == "postgres":
            from rayflow.stores.servers.postgres import Postgres

            dsn = request.getfixturevalue("postgres_dsn")
            return ServerStore(Postgres(dsn, place, Rows(payloads)), Rows(payloads), 10.0)
        from rayflow.stores.servers.redis import Redis

        url = request.getfixturevalue("redis_url")
        return ServerStore(Redis(url, place, Rows(payloads)), Rows(payloads), 10.0)

    @asynccontextmanager
    async def open_with(*keys: bytes) -> AsyncIterator[ShardStore]:
        made = store(Payloads(Sealer(keys) if keys else None))
        await made.open()
        try:
            yield made
        finally:
            await made.close()

    return open_with


async def put(store: ShardStore, name: str = "a", value: bytes = b"SECRET", owner: str = ADA) -> None:
    await store.write_records(WriteRecords("t", owner, [RecordWrite("fact", name, value)]), NOW_US)


async def values(store: ShardStore, owner: str = ADA) -> list[bytes]:
    found = await store.read_records(ReadRecords("t", owner, "fact"), NOW_US)
    return [record.value for record in found.records]


async def test_records_cannot_be_read_without_their_key(opened: Opener) -> None:
    async with opened(OLD) as store:
        await put(store)
    async with opened(NEW) as store:
        with pytest.raises(StorageError, match=r"encrypts the records of user/ada, and session\.encryption has"):
            await values(store)
        await put(store, owner=of_user("bob"))
        assert await values(store, of_user("bob")) == [b"SECRET"]
    async with opened() as store:
        with pytest.raises(StorageError, match=r"the records of user/ada, and session\.encryption is not configured"):
            await values(store)
        with pytest.raises(StorageError, match=r"user/ada"):
            await put(store, "b")
    async with opened(OLD, NEW) as store:
        assert await values(store) == [b"SECRET"]


async def test_a_write_that_needs_a_key_that_is_not_there_writes_nothing(opened: Opener) -> None:
    async with opened(OLD) as store:
        await put(store, "a")
        await put(store, "b")
    async with opened(NEW) as store:
        both = [RecordWrite("fact", "b", None), RecordWrite("fact", "a", b"other")]
        for fails in (
            put(store, "a", b"other"),
            put(store, "c", b"other"),
            store.write_records(WriteRecords("t", ADA, both), NOW_US),
        ):
            with pytest.raises(StorageError):
                await fails
    async with opened(OLD) as store:
        assert await values(store) == [b"SECRET", b"SECRET"]
        await store.erase_records(EraseRecords("t", ADA))
        assert (await store.list_records(ListRecords())).records == []


async def test_keys_of_owners_are_changed_while_the_store_is_in_use(opened: Opener) -> None:
    owners = [of_user(f"u{i}") for i in range(12)]
    async with opened(OLD) as store:
        for owner in owners:
            await put(store, owner=owner)
    async with opened(NEW, OLD) as store:
        done = [await store.rekey_records(5)]
        await put(store, "b", b"more", owners[0])
        await put(store, "b", b"more", owners[-1])
        done += [await store.rekey_records(5) for _ in range(3)]
        assert done == [5, 5, 2, 0]
    async with opened(NEW) as store:
        assert [await values(store, owner) for owner in owners[1:-1]] == [[b"SECRET"]] * 10
        assert await values(store, owners[0]) == [b"SECRET", b"more"]
        assert await values(store, owners[-1]) == [b"SECRET", b"more"]


async def test_records_that_were_there_are_encrypted_by_a_rekey(opened: Opener) -> None:
    async with opened() as store:
        await append(store, user("hello"))
        for name in "abc":
            await put(store, name)
        await put(store, owner=of_session("s"))
    async with opened(NEW) as store:
        await put(store, "b", b"plain until now")
        assert await values(store) == [b"SECRET", b"plain until now", b"SECRET"]
        rekeyed, *_ = await asyncio.gather(
            store.rekey_records(), put(store, "c", b"meanwhile"), put(store, "d", b"meanwhile")
        )
        assert rekeyed == 2
        assert await store.rekey_records() == 0
        assert await values(store) == [b"SECRET", b"plain until now", b"meanwhile", b"meanwhile"]
    async with opened() as store:
        for owner in (ADA, of_session("s")):
            with pytest.raises(StorageError):
                await values(store, owner)
        gone = [RecordWrite("fact", name, None) for name in "abcd"]
        await store.write_records(WriteRecords("t", ADA, gone), NOW_US)
        await put(store, value=b"of an owner without a key, as if there had never been one")
        assert len(await values(store)) == 1


async def test_an_owner_has_a_new_key_after_all_records_were_deleted(opened: Opener) -> None:
    async with opened(OLD) as store:
        await put(store)
        await store.write_records(WriteRecords("t", ADA, [RecordWrite("fact", "a", None)]), NOW_US)
    async with opened(NEW) as store:
        await put(store)
        assert await values(store) == [b"SECRET"]
        assert await store.rekey_records() == 0


async def test_nothing_of_a_record_is_readable_in_the_file_and_none_can_be_moved(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = SqliteStore(path, payloads=Payloads(Sealer([OLD])))
    await store.open()
    await put(store, "a", b"SECRET one")
    await put(store, "b", b"SECRET two")
    await put(store, "a", b"SECRET bob", of_user("bob"))
    await store.close()
    assert b"SECRET" not in path.read_bytes()
    for change in (
        "update records set value = (select value from records where name = 'b') where name = 'a' and owner = 1",
        "update records set name = 'c' where name = 'b'",
        "update records set kind = 'taste' where name = 'b'",
        "update records set version = 2 where name = 'b'",
        "update records set owner = 2 where name = 'b'",
        "update record_owners set owner_name = 'user/eve' where owner_name = 'user/ada'",
        "update record_owners set tenant = 'other'",
        "update record_owners set data_key = (select data_key from record_owners where number = 2) where number = 1",
        "update records set value = x'00' where name = 'b'",
    ):
        copy = tmp_path / uuid4().hex
        copy.write_bytes(path.read_bytes())
        with closing(sqlite3.connect(copy)) as db, db:
            assert db.execute(change).rowcount
        changed = SqliteStore(copy, payloads=Payloads(Sealer([OLD])))
        await changed.open()
        with pytest.raises(StorageError, match="is not what was written there"):
            await changed.list_records(ListRecords())
        await changed.close()
