"""One contract, every store of records."""

from __future__ import annotations

import asyncio

import pytest
from support.sessions import NOW_US, append, user

from rayflow.errors import Conflict, NotFound, ValidationError
from rayflow.messages import (
    DeleteSession,
    EraseRecords,
    EraseUser,
    GetSession,
    ImportRecords,
    ListRecords,
    ReadRecords,
    Record,
    RecordWrite,
    WriteRecords,
)
from rayflow.messages.records import MAX_READ_BYTES, MAX_VALUE_BYTES, MAX_WRITES, TENANT, of_session, of_user
from rayflow.runtime.ports import ShardStore

ADA = of_user("ada")


async def write(
    store: ShardStore, *writes: RecordWrite, owner: str = ADA, tenant: str = "t", now_us: int = NOW_US
) -> list[int]:
    return (await store.write_records(WriteRecords(tenant, owner, list(writes)), now_us)).versions


async def put(store: ShardStore, name: str, value: bytes, *, kind: str = "fact", owner: str = ADA, **more: int) -> int:
    (version,) = await write(store, RecordWrite(kind, name, value, **more), owner=owner)
    return version


async def read(
    store: ShardStore, *names: str, kind: str = "fact", owner: str = ADA, tenant: str = "t", now_us: int = NOW_US
) -> dict[str, bytes]:
    found = await store.read_records(ReadRecords(tenant, owner, kind, list(names)), now_us)
    return {record.name: record.value for record in found.records}


async def everything(store: ShardStore) -> list[tuple[str, str, str, str]]:
    found = (await store.list_records(ListRecords(limit=1000))).records
    return [(each.tenant, each.owner, each.record.kind, each.record.name) for each in found]


async def test_a_record_comes_back_as_it_was_written(store: ShardStore) -> None:
    value = b'\x00\xff{"plain": 1}\x01'
    assert await write(store, RecordWrite("fact", "é/🎉", value, expires_us=NOW_US + 10)) == [1]
    (record,) = (await store.read_records(ReadRecords("t", ADA, "fact"), NOW_US)).records
    assert record == Record("fact", "é/🎉", value, 1, NOW_US, NOW_US, NOW_US + 10)


async def test_a_write_counts_the_version_on_and_keeps_the_beginning(store: ShardStore) -> None:
    assert await put(store, "a", b"one") == 1
    assert await write(store, RecordWrite("fact", "a", b"two"), now_us=NOW_US + 5) == [2]
    (record,) = (await store.read_records(ReadRecords("t", ADA, "fact"), NOW_US)).records
    assert record == Record("fact", "a", b"two", 2, NOW_US, NOW_US + 5)


async def test_an_empty_value_is_a_value(store: ShardStore) -> None:
    await put(store, "a", b"")
    assert await read(store) == {"a": b""}


async def test_what_was_never_written_is_simply_not_there(store: ShardStore) -> None:
    assert await read(store) == {}
    assert await read(store, "a", "b") == {}
    assert (await store.erase_records(EraseRecords("t", ADA))).records == 0
    assert await write(store, RecordWrite("fact", "a", None)) == [0]
    assert await everything(store) == []


async def test_records_are_kept_apart_by_tenant_owner_and_kind(store: ShardStore) -> None:
    await put(store, "a", b"ada's")
    await put(store, "a", b"bob's", owner=of_user("bob"))
    await put(store, "a", b"a taste", kind="taste")
    await put(store, "a", b"everyone's", owner=TENANT)
    await write(store, RecordWrite("fact", "a", b"elsewhere"), tenant="other")
    assert await read(store) == {"a": b"ada's"}
    assert await read(store, owner=of_user("bob")) == {"a": b"bob's"}
    assert await read(store, kind="taste") == {"a": b"a taste"}
    assert await read(store, owner=TENANT) == {"a": b"everyone's"}
    assert await read(store, tenant="other") == {"a": b"elsewhere"}


async def test_records_are_read_in_the_order_of_the_bytes_of_their_names(store: ShardStore) -> None:
    names = ["b", "a", "é", "Z", "a/1", "a.1", "10", "9", "𝔄", "ﬀ"]
    await write(store, *(RecordWrite("fact", name, b"x") for name in names))
    in_order = sorted(names, key=str.encode)
    assert list(await read(store)) == in_order
    first = await store.read_records(ReadRecords("t", ADA, "fact", limit=4), NOW_US)
    rest = await store.read_records(ReadRecords("t", ADA, "fact", after=first.records[-1].name), NOW_US)
    assert (first.more, rest.more) == (True, False)
    assert [record.name for record in first.records + rest.records] == in_order


async def test_a_page_that_holds_exactly_what_is_there_is_the_last(store: ShardStore) -> None:
    await write(store, *(RecordWrite("fact", name, b"x") for name in "ab"))
    assert not (await store.read_records(ReadRecords("t", ADA, "fact", limit=2), NOW_US)).more


async def test_some_records_are_read_by_name(store: ShardStore) -> None:
    await write(store, *(RecordWrite("fact", name, name.encode()) for name in "abcd"))
    assert await read(store, "d", "none", "b", "d") == {"b": b"b", "d": b"d"}
    behind = await store.read_records(ReadRecords("t", ADA, "fact", ["a", "b", "c"], after="a", limit=1), NOW_US)
    assert ([record.name for record in behind.records], behind.more) == (["b"], True)


async def test_a_reply_ends_where_it_is_large_enough(store: ShardStore) -> None:
    value = b"x" * MAX_VALUE_BYTES
    count = MAX_READ_BYTES // MAX_VALUE_BYTES
    await write(store, *(RecordWrite("fact", f"{i:02}", value) for i in range(count + 1)))
    first = await store.read_records(ReadRecords("t", ADA, "fact"), NOW_US)
    assert (len(first.records), first.more) == (count, True)
    rest = await store.read_records(ReadRecords("t", ADA, "fact", after=first.records[-1].name), NOW_US)
    assert ([record.name for record in rest.records], rest.more) == ([f"{count:02}"], False)
    listed = await store.list_records(ListRecords())
    assert (len(listed.records), listed.more) == (count, True)


async def test_a_write_may_expect_a_version(store: ShardStore) -> None:
    assert await put(store, "a", b"1", expected_version=0) == 1
    assert await put(store, "a", b"2", expected_version=1) == 2
    for expected in (0, 1, 3):
        with pytest.raises(Conflict) as caught:
            await put(store, "a", b"3", expected_version=expected)
        assert caught.value.details == {"kind": "fact", "name": "a", "version": 2}
    with pytest.raises(Conflict) as caught:
        await put(store, "b", b"1", expected_version=1)
    assert caught.value.details["version"] == 0
    with pytest.raises(Conflict):
        await write(store, RecordWrite("fact", "a", None, expected_version=1))
    assert await write(store, RecordWrite("fact", "a", None, expected_version=2)) == [0]
    assert await read(store) == {}


async def test_writes_are_made_all_or_none(store: ShardStore) -> None:
    await put(store, "c", b"old")
    with pytest.raises(Conflict):
        await write(
            store,
            RecordWrite("fact", "a", b"new"),
            RecordWrite("fact", "c", None),
            RecordWrite("fact", "b", b"new", expected_version=7),
        )
    assert await read(store) == {"c": b"old"}
    with pytest.raises(Conflict):
        await write(store, RecordWrite("fact", "a", b"new", expected_version=7), owner=of_user("new"))
    assert await everything(store) == [("t", ADA, "fact", "c")]
    made = await write(
        store, RecordWrite("fact", "a", b"A"), RecordWrite("fact", "c", None), RecordWrite("taste", "a", b"B")
    )
    assert made == [1, 0, 1]
    assert await read(store) == {"a": b"A"}
    assert await read(store, kind="taste") == {"a": b"B"}


async def test_of_writers_at_the_same_time_one_has_its_expected_version(store: ShardStore) -> None:
    async def count() -> int:
        tries = 0
        while True:
            tries += 1
            found = await store.read_records(ReadRecords("t", ADA, "count", ["n"]), NOW_US)
            value, version = (int(found.records[0].value), found.records[0].version) if found.records else (0, 0)
            try:
                return await put(store, "n", b"%d" % (value + 1), kind="count", expected_version=version)
            except Conflict:
                assert tries < 100

    versions = await asyncio.gather(*(count() for _ in range(8)))
    assert sorted(versions) == list(range(1, 9))
    assert await read(store, kind="count") == {"n": b"8"}


async def test_what_has_expired_is_not_there(store: ShardStore) -> None:
    await put(store, "a", b"soon", expires_us=NOW_US + 10)
    await put(store, "b", b"never")
    assert await read(store, now_us=NOW_US + 9) == {"a": b"soon", "b": b"never"}
    assert await read(store, now_us=NOW_US + 10) == {"b": b"never"}
    assert await read(store, "a", now_us=NOW_US + 10) == {}
    page = await store.read_records(ReadRecords("t", ADA, "fact", limit=1), NOW_US + 10)
    assert ([record.name for record in page.records], page.more) == (["b"], False)
    again = RecordWrite("fact", "a", b"anew", expected_version=0)
    assert await write(store, again, now_us=NOW_US + 10) == [1]
    assert await read(store, now_us=NOW_US + 20) == {"a": b"anew", "b": b"never"}


async def test_what_has_expired_is_deleted_a_few_at_a_time(store: ShardStore) -> None:
    for i in range(5):
        await put(store, f"{i}", b"x", expires_us=NOW_US + 10 + i, owner=of_user(f"{i}"))
    await put(store, "kept", b"x")
    assert await store.expire_records(NOW_US + 9) == 0
    assert await store.expire_records(NOW_US + 13, limit=3) == 3
    assert await store.expire_records(NOW_US + 13, limit=3) == 1
    assert await store.expire_records(NOW_US + 13, limit=3) == 0
    assert await everything(store) == [("t", of_user("4"), "fact", "4"), ("t", ADA, "fact", "kept")]


async def test_a_record_whose_time_was_prolonged_does_not_expire(store: ShardStore) -> None:
    await put(store, "a", b"x", expires_us=NOW_US + 10)
    await put(store, "b", b"x", expires_us=NOW_US + 10)
    await put(store, "a", b"y", expires_us=NOW_US + 20)
    await put(store, "b", b"y")
    assert await store.expire_records(NOW_US + 15) == 0
    assert await read(store, now_us=NOW_US + 15) == {"a": b"y", "b": b"y"}
    assert await store.expire_records(NOW_US + 20) == 1


async def test_an_owner_is_erased_whole_or_by_kind(store: ShardStore) -> None:
    await put(store, "a", b"x")
    await put(store, "b", b"x")
    await put(store, "a", b"x", kind="taste")
    await put(store, "a", b"x", owner=of_user("bob"))
    assert (await store.erase_records(EraseRecords("t", ADA, "fact"))).records == 2
    assert (await read(store), await read(store, kind="taste")) == ({}, {"a": b"x"})
    assert (await store.erase_records(EraseRecords("t", ADA))).records == 1
    assert await everything(store) == [("t", of_user("bob"), "fact", "a")]
    assert await put(store, "a", b"again") == 1


async def test_the_records_of_a_session_go_with_it(store: ShardStore) -> None:
    await append(store, user("hello"), session="s1")
    await append(store, user("hello"), session="s2")
    for session in ("s1", "s2"):
        await put(store, "a", b"x", owner=of_session(session))
    await store.delete(DeleteSession("t", "s1"))
    assert await everything(store) == [("t", of_session("s2"), "fact", "a")]
    with pytest.raises(NotFound):
        await store.get(GetSession("t", "s1"))


async def test_the_records_of_a_session_may_come_before_it(store: ShardStore) -> None:
    await put(store, "a", b"x", owner=of_session("s1"))
    await append(store, user("hello"), session="s1")
    assert await read(store, owner=of_session("s1")) == {"a": b"x"}


async def test_the_records_of_sessions_that_expire_go_with_them(store: ShardStore) -> None:
    await append(store, user("hello"), session="old", now_us=NOW_US)
    await append(store, user("hello"), session="new", now_us=NOW_US + 100_000_000)
    for session in ("old", "new"):
        await put(store, "a", b"x", owner=of_session(session))
    assert await store.expire(NOW_US + 100_000_000, 50, 0) == 1
    assert await everything(store) == [("t", of_session("new"), "fact", "a")]


async def test_to_erase_a_user_erases_the_records_of_the_user_and_of_the_sessions(store: ShardStore) -> None:
    await append(store, user("hello"), session="s1", user_id="ada")
    await append(store, user("hello"), session="s2", user_id="bob")
    for owner in (ADA, of_user("bob"), of_session("s1"), of_session("s2")):
        await put(store, "a", b"x", owner=owner)
    await put(store, "b", b"x")
    erased = await store.erase(EraseUser("t", "ada"))
    assert (erased.sessions, erased.records) == (1, 2)
    assert await everything(store) == [("t", of_session("s2"), "fact", "a"), ("t", of_user("bob"), "fact", "a")]
    assert (await store.erase(EraseUser("t", "ada"))).records == 0


async def test_deletion_and_writes_at_the_same_time_come_one_after_the_other(store: ShardStore) -> None:
    await append(store, user("hello"), session="s1")
    await put(store, "a", b"before", owner=of_session("s1"))
    _, versions, found = await asyncio.gather(
        store.delete(DeleteSession("t", "s1")),
        write(store, RecordWrite("fact", "b", b"after"), owner=of_session("s1")),
        append(store, user("again"), session="s1"),
    )
    assert (versions, found.last_seq, found.created) == ([1], 1, True)
    assert await read(store, owner=of_session("s1")) == {"b": b"after"}


async def test_many_writes_at_once_all_arrive(store: ShardStore) -> None:
    await asyncio.gather(*(put(store, f"{i:02}", b"%d" % i) for i in range(60)))
    await asyncio.gather(*(write(store, RecordWrite("fact", f"{i:02}", None)) for i in range(50)))
    assert await read(store) == {f"{i:02}": b"%d" % i for i in range(50, 60)}
    await asyncio.gather(*(write(store, RecordWrite("fact", f"{i:02}", None)) for i in range(50, 60)))
    assert await everything(store) == []
    assert await put(store, "a", b"x") == 1


async def test_all_records_are_listed_in_order_and_in_pages(store: ShardStore) -> None:
    places = [
        (tenant, owner, kind, name)
        for tenant in ("", "t", "t2", "ä")
        for owner in (TENANT, ADA, of_user("ad"), of_session("s"))
        for kind in ("k", "k/1")
        for name in ("a", "b")
    ]
    for tenant, owner, kind, name in places:
        await write(store, RecordWrite(kind, name, name.encode()), owner=owner, tenant=tenant)
    assert await everything(store) == sorted(places)
    paged, after, more = [], None, True
    while more:
        page = await store.list_records(ListRecords(after=after, limit=7))
        paged += [(each.tenant, each.owner, each.record.kind, each.record.name) for each in page.records]
        after, more = paged[-1], page.more
    assert paged == sorted(places)
    for tenant in ("", "t2"):
        of_tenant = (await store.list_records(ListRecords(tenant))).records
        assert ({each.tenant for each in of_tenant}, len(of_tenant)) == ({tenant}, 16)
    of_one = (await store.list_records(ListRecords("t", ADA, after=("t", ADA, "k", "a")))).records
    assert [(each.record.kind, each.record.value) for each in of_one] == [("k", b"b"), ("k/1", b"a"), ("k/1", b"b")]
    assert (await store.list_records(ListRecords("t", of_user("none")))).records == []


async def test_imported_records_are_as_they_were(store: ShardStore) -> None:
    records = [Record("fact", "a", b"A", 7, 1, 2, NOW_US + 10), Record("taste", "b", b"B", 1, 3, 4)]
    await store.import_records(ImportRecords("t", ADA, records))
    await store.import_records(ImportRecords("t", ADA, records))
    assert [each.record for each in (await store.list_records(ListRecords())).records] == records
    assert await store.expire_records(NOW_US + 10) == 1


async def test_an_import_does_not_undo_what_was_written_since(store: ShardStore) -> None:
    await store.import_records(ImportRecords("t", ADA, [Record("fact", "a", b"old", 3, 1, 1)]))
    assert await put(store, "a", b"new") == 4
    await store.import_records(ImportRecords("t", ADA, [Record("fact", "a", b"old", 3, 1, 1)]))
    assert await read(store) == {"a": b"new"}
    await store.import_records(ImportRecords("t", ADA, [Record("fact", "a", b"newer", 9, 1, 1)]))
    assert await read(store) == {"a": b"newer"}


@pytest.mark.parametrize(
    ("owner", "writes", "param"),
    [
        (ADA, [RecordWrite("fact", "a", b"x" * (MAX_VALUE_BYTES + 1))], "value"),
        (ADA, [RecordWrite("fact", str(i), b"x") for i in range(MAX_WRITES + 1)], "writes"),
        (ADA, [RecordWrite("fact", str(i), b"x" * MAX_VALUE_BYTES) for i in range(17)], "writes"),
        (ADA, [RecordWrite("fact", "a", b"x"), RecordWrite("fact", "a", None)], "writes"),
        (ADA, [RecordWrite("fact", "", b"x")], "name"),
        (ADA, [RecordWrite("fact", "a\0b", b"x")], "name"),
        (ADA, [RecordWrite("fact", "\ud800", b"x")], "name"),
        (ADA, [RecordWrite("", "a", b"x")], "kind"),
        ("ada", [RecordWrite("fact", "a", b"x")], "owner"),
        ("user/", [RecordWrite("fact", "a", b"x")], "owner"),
        ("tenant/x", [RecordWrite("fact", "a", b"x")], "owner"),
    ],
)
async def test_what_no_store_takes_is_refused_before_anything_is_written(
    store: ShardStore, owner: str, writes: list[RecordWrite], param: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        await write(store, *writes, owner=owner)
    assert caught.value.details["param"] == param
    assert await everything(store) == []


async def test_to_expire_comes_to_an_end_after_owners_were_erased(store: ShardStore) -> None:
    for i in range(5):
        await put(store, f"{i}", b"x", expires_us=NOW_US + 10 + i, owner=of_user(f"{i}"))
        await store.erase_records(EraseRecords("t", of_user(f"{i}")))
    await put(store, "a", b"x", expires_us=NOW_US + 20)
    while await store.expire_records(NOW_US + 20, limit=3) == 3:
        pass
    assert await everything(store) == []
    assert await store.expire_records(NOW_US + 20) == 0
