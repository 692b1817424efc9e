"""What `rayflow doctor` says of the sessions in a state folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from support.sessions import append, user

from rayflow.app.doctor.sessions import sessions
from rayflow.stores.payloads import Payloads
from rayflow.stores.sealing import Sealer
from rayflow.stores.sqlite import SqliteStore

OLD, NEW = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions" / "shard-0-of-1.sqlite"


async def add(file: Path, session: str, *keys: bytes, rekey: bool = False) -> None:
    store = SqliteStore(file, payloads=Payloads(Sealer(keys) if keys else None))
    await store.open()
    await append(store, user("x"), session=session)
    if rekey:
        await store.rekey()
    await store.close()


async def test_sessions_are_counted_and_their_keys_named(tmp_path: Path, file: Path) -> None:
    assert sessions(tmp_path).found == "0 in the state folder, not encrypted"
    await add(file, "a")
    assert sessions(tmp_path).found == "1 in the state folder, not encrypted"
    await add(file, "b", OLD)
    mixed = sessions(tmp_path)
    assert (mixed.level, "1 not at all" in mixed.found) == ("warn", True)
    await add(file, "c", NEW, OLD)
    await add(file, "d", NEW, OLD, rekey=True)
    done = sessions(tmp_path)
    assert done.level == "ok"
    assert done.found.startswith("4 in the state folder, encrypted with key ")


async def test_two_keys_are_worth_a_word(tmp_path: Path, file: Path) -> None:
    await add(file, "a", OLD)
    await add(file, "b", NEW, OLD)
    found = sessions(tmp_path)
    assert (found.level, found.found.count("key ")) == ("warn", 2)


async def test_a_file_that_cannot_be_read_is_a_failure(tmp_path: Path, file: Path) -> None:
    await add(file, "a")
    with sqlite3.connect(file) as db:
        db.execute("pragma user_version = 99")
    db.close()
    assert sessions(tmp_path).found == "shard-0-of-1.sqlite was written by a newer rayflow (schema 99)"
    file.write_bytes(b"no database " * 1000)
    broken = sessions(tmp_path)
    assert (broken.level, "not a database" in broken.found) == ("fail", True)
