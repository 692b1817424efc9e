"""The file of a shard: who can read it, and what becomes of one that an earlier version wrote."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from support.sessions import NOW_US, append, texts, user

from rayflow.messages import GetSession, ReadRecords, RecordWrite, WriteRecords
from rayflow.messages.records import of_session
from rayflow.stores.sqlite import SCHEMA, SqliteStore

SCHEMA_3 = """
create table logs (
    number integer primary key, tenant text not null, session_id text not null, data_key blob not null
);
create table heads (
    tenant text not null, session_id text not null, number integer not null, user_id text not null,
    created_us integer not null, updated_us integer not null, last_seq integer not null, version integer not null,
    closed_us integer not null, parent_id text not null, branch_id text not null, forked_at integer not null,
    data_key blob not null, head blob not null, primary key (tenant, session_id)
) without rowid;
create index heads_by_age on heads (tenant, created_us, session_id);
create index heads_by_user on heads (tenant, user_id, created_us, session_id);
create table entries (
    place integer primary key, run_id text not null, role text not null, agent text not null, partial integer not null,
    created_us integer not null, usage text, digest text not null, message blob not null
);
create index entries_by_digest on entries (run_id, place) where digest <> '';
create table shares (
    number integer not null, upto integer not null, source integer not null, primary key (number, upto)
) without rowid;
create index shares_by_source on shares (source, upto);
create table ownership (id integer primary key check (id = 1), epoch integer not null);
insert into ownership values (1, 7);
insert into logs values (1, 't', 's', x''), (2, 't', 'child', x'');
insert into heads values
    ('t', 's', 1, 'ada', 10, 30, 2, 3, 0, '', '', 0, x'', cast('{"title":"T"}' as blob)),
    ('t', 'child', 2, 'ada', 20, 20, 1, 1, 0, 's', 'b', 1, x'', cast('{}' as blob));
insert into shares values (2, 1, 1);
insert into entries values
    ((1 << 31) + 1, 'r', 'user', '', 0, 11, null, '', cast('{"role":"user","content":"one"}' as blob)),
    ((1 << 31) + 2, 'r', 'assistant', 'a', 0, 12, null, '', cast('{"role":"assistant","content":"two"}' as blob));
pragma user_version = 3;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions" / "shard-0-of-1.sqlite"


def modes(path: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}


async def test_nobody_else_can_read_a_shard_or_its_log(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        await store.open()
        await append(store, user("x"))
        assert modes(path) == {path.name: 0o600, f"{path.name}-wal": 0o600, f"{path.name}-shm": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        await store.close()
    finally:
        os.umask(before)


async def test_a_shard_that_others_could_read_becomes_private(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await append(store, user("x"))
    path.chmod(0o644)
    again = SqliteStore(path)
    await again.open()
    assert set(modes(path).values()) == {0o600}
    await again.close()
    await store.close()


async def test_a_file_from_before_there_were_records_keeps_its_sessions_and_takes_records(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA_3)
    store = SqliteStore(path)
    await store.open()
    info = await store.get(GetSession("t", "s"))
    assert (info.title, info.turns, info.version, info.created_us, info.updated_us) == ("T", 2, 3, 10, 30)
    child = await store.get(GetSession("t", "child"))
    assert (child.turns, child.parent_conversation_id, child.forked_at, child.updated_us) == (1, "s", 1, 20)
    assert await texts(store) == ["one", "two"]
    assert await texts(store, session="child") == ["one"]
    assert (await append(store, user("three"))).last_seq == 3
    await store.write_records(WriteRecords("t", of_session("s"), [RecordWrite("state", "a", b"x")]), NOW_US)
    found = await store.read_records(ReadRecords("t", of_session("s"), "state"), NOW_US)
    assert [record.value for record in found.records] == [b"x"]
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("pragma user_version").fetchone() == (SCHEMA.version,)
        assert db.execute("select epoch from ownership").fetchone() == (8,)
