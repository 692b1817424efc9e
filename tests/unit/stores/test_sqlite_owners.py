"""A shard has one owner: whoever opened its file last. An earlier one that wakes up can neither write nor read."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from rayflow.chat import Message
from rayflow.errors import Fenced, StorageError, from_info
from rayflow.messages import AppendTurns, CreateSession, DeleteSession, GetHistory, GetSession, Turn
from rayflow.stores import sqlite_file
from rayflow.stores.payloads import PLAIN
from rayflow.stores.sqlite import SCHEMA, SqliteStore
from rayflow.stores.sqlite_file import OwnedFile
from rayflow.stores.sqlite_sessions import Shard

Opener = Callable[[], AbstractAsyncContextManager[SqliteStore]]


def turn(text: str, session: str = "s") -> AppendTurns:
    return AppendTurns("t", session, [Message("user", text)])


async def texts(store: SqliteStore, session: str = "s") -> list[str]:
    return [turn.message.text for turn in (await store.history(GetHistory("t", session, limit=1_000_000))).turns]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def owner(path: Path) -> Opener:
    """One more owner of the file."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[SqliteStore]:
        store = SqliteStore(path)
        await store.open()
        yield store
        await store.close()

    return opened


async def test_after_a_takeover_the_former_owner_is_refused_whatever_it_asks(owner: Opener) -> None:
    async with owner() as zombie:
        await zombie.append(turn("before"), 1)
        async with owner() as successor:
            for request in (
                zombie.append(turn("after"), 2),
                zombie.create(CreateSession("t", "new"), 2),
                zombie.delete(DeleteSession("t", "s")),
                zombie.get(GetSession("t", "s")),
                zombie.history(GetHistory("t", "s")),
                zombie.append(turn("and again"), 2),
            ):
                with pytest.raises(Fenced):
                    await request
            assert (await successor.append(turn("mine"), 3)).last_seq == 2
            assert await texts(successor) == ["before", "mine"]


async def test_a_fenced_owner_says_who_has_taken_over_and_that_nothing_was_written(path: Path, owner: Opener) -> None:
    async with owner() as zombie, owner(), owner():
        with pytest.raises(Fenced, match="owner number 3 while number 1") as caught:
            await zombie.append(turn("x"), 1)
    error = caught.value
    assert error.details == {"path": str(path), "epoch": 1, "owner": 3, "retry_after_s": 1}
    assert (error.slug, error.status, error.retryable, error.retry_after_s) == ("fenced", 503, True, 1.0)
    crossed = from_info(error.to_info())
    assert (type(crossed), crossed.message, crossed.details) == (Fenced, error.message, error.details)


async def test_of_a_refused_batch_nothing_is_written(owner: Opener) -> None:
    async with owner() as zombie, owner() as successor:
        writes = [zombie.append(turn(str(i), f"s{i}"), 1) for i in range(50)]
        reads = [zombie.get(GetSession("t", f"s{i}")) for i in range(50)]
        outcomes = await asyncio.gather(*writes, *reads, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Fenced}
        await successor.create(CreateSession("t", "s7"), 2)
    assert zombie.commits == 0


@pytest.mark.parametrize("seed", range(8))
async def test_no_write_of_a_former_owner_is_visible_after_its_successor_opened(path: Path, seed: int) -> None:
    """Owners follow each other while all of them write as fast as they can."""
    rng = random.Random(seed)
    acknowledged: list[str] = []
    seen_at_takeover: list[tuple[str, list[str]]] = []

    async def write(store: SqliteStore, name: str, enough: asyncio.Event) -> None:
        for i in range(100_000):
            try:
                await store.append(turn(f"{name}.{i}"), 1)
            except Fenced:
                return
            acknowledged.append(f"{name}.{i}")
            if len(acknowledged) >= threshold:
                enough.set()
        raise AssertionError("never refused")

    stores: list[SqliteStore] = []
    writers: list[asyncio.Task[None]] = []
    for number in range(5):
        store = SqliteStore(path)
        await store.open()
        if stores:
            former = f"owner{number - 1}."
            seen_at_takeover.append((former, [text for text in await texts(store) if text.startswith(former)]))
        stores.append(store)
        threshold = len(acknowledged) + rng.randint(1, 200)
        enough = asyncio.Event()
        if number < 4:
            writers += [asyncio.create_task(write(store, f"owner{number}.{n}", enough)) for n in range(3)]
            await enough.wait()
    await asyncio.gather(*writers)

    found = await texts(stores[-1])
    assert sorted(found) == sorted(acknowledged), "acknowledged and there, or refused and not there"
    assert seen_at_takeover == [
        (f"owner{n}.", [text for text in found if text.startswith(f"owner{n}.")]) for n in range(4)
    ]
    for store in stores:
        await store.close()


class Frozen:
    """A write that stops inside its transaction until it is thawed."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.thaw = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, db: sqlite3.Connection) -> None:
        self._loop.call_soon_threadsafe(self.inside.set)
        self.thaw.wait()
        Shard(db, PLAIN).append(turn("under way"), 1)


async def test_a_takeover_waits_for_the_transaction_under_way(owner: Opener, path: Path) -> None:
    frozen, successor = Frozen(), SqliteStore(path)
    async with owner() as zombie:
        writing = asyncio.create_task(zombie.submit(frozen))
        await frozen.inside.wait()
        opening = asyncio.create_task(successor.open())
        await asyncio.sleep(0)
        frozen.thaw.set()
        await asyncio.gather(writing, opening)
        with pytest.raises(Fenced):
            await zombie.append(turn("late"), 1)
        assert await texts(successor) == ["under way"]
        await successor.close()


async def test_who_stays_frozen_inside_a_transaction_keeps_the_file(
    owner: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.01)
    frozen = Frozen()
    async with owner() as zombie:
        writing = asyncio.create_task(zombie.submit(frozen))
        await frozen.inside.wait()
        with pytest.raises(StorageError, match="locked"):
            await SqliteStore(path).open()
        frozen.thaw.set()
        await writing
        await zombie.append(turn("still mine"), 1)
        async with owner() as successor:
            assert await texts(successor) == ["under way", "still mine"]


async def test_a_reader_is_refused_also_when_the_lock_cannot_be_had(owner: Opener, path: Path) -> None:
    """What cannot be written in one batch is read again by itself; a former owner must not be answered there either."""
    async with owner() as zombie:
        await zombie.append(turn("x"), 1)
        await zombie.submit(lambda db: db.execute("pragma busy_timeout = 10").fetchone())
        async with owner():
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("begin immediate")
            with pytest.raises(Fenced):
                await zombie.get(GetSession("t", "s"))
            other.execute("rollback")
            other.close()


FROZEN = """
import asyncio, sys
from pathlib import Path
from rayflow.chat import Message
from rayflow.errors import Fenced
from rayflow.messages import AppendTurns
from rayflow.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    for line in sys.stdin:
        try:
            await store.append(AppendTurns("t", "s", [Message("user", line.strip())]), 1)
            print("written", flush=True)
        except Fenced as error:
            print(error.slug, flush=True)

asyncio.run(main())
"""


async def test_a_process_that_was_frozen_during_the_takeover_is_fenced_when_it_goes_on(
    owner: Opener, path: Path
) -> None:
    command = [sys.executable, "-c", FROZEN, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as zombie:
        assert zombie.stdin is not None
        assert zombie.stdout is not None
        zombie.stdin.write("before\n")
        assert zombie.stdout.readline() == "written\n"
        zombie.send_signal(signal.SIGSTOP)
        async with owner() as successor:
            await successor.append(turn("mine"), 2)
            zombie.stdin.write("after\n")
            zombie.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(zombie.stdout.readline) == "fenced\n"
            assert await texts(successor) == ["before", "mine"]
        zombie.stdin.close()


SCHEMA_1 = """
create table sessions (
    tenant text not null, session_id text not null, user_id text not null, created_us integer not null,
    updated_us integer not null, last_seq integer not null, metadata text not null,
    primary key (tenant, session_id)
) without rowid;
create table turns (
    tenant text not null, session_id text not null, seq integer not null, run_id text not null, role text not null,
    agent text not null, status text not null, created_us integer not null, message blob not null,
    primary key (tenant, session_id, seq)
) without rowid;
insert into sessions values ('t', 's', 'ada', 1, 2, 1, '{"plan":1}'), ('u', 's', 'bob', 3, 4, 2, '{}');
insert into turns values
    ('t', 's', 1, 'r', 'user', '', 'complete', 2, cast('{"role":"user","content":"old"}' as blob)),
    ('u', 's', 1, 'q', 'user', '', 'complete', 4, cast('{"role":"user","content":"hers"}' as blob)),
    ('u', 's', 2, 'q', 'assistant', 'billing', 'partial', 4, cast('{"role":"assistant","content":"cu"}' as blob));
pragma user_version = 1;
"""

SCHEMA_2 = """
create table ownership (id integer primary key check (id = 1), epoch integer not null);
insert into ownership (id, epoch) values (1, 0);
pragma user_version = 2;
"""


@pytest.fixture(params=[1, 2])
def old_file(path: Path, request: pytest.FixtureRequest) -> Path:
    db = sqlite3.connect(path)
    db.execute("pragma journal_mode = wal")
    db.executescript(SCHEMA_1)
    if request.param == 2:
        db.executescript(SCHEMA_2)
    db.close()
    return path


async def test_a_file_of_an_older_schema_keeps_its_turns_and_gets_owners(old_file: Path, owner: Opener) -> None:
    async with owner() as first:
        info = await first.get(GetSession("t", "s"))
        assert (info.user_id, info.turns, info.metadata) == ("ada", 1, {"plan": 1})
        assert (await first.append(turn("new"), 3)).last_seq == 2
        page = await first.history(GetHistory("u", "s"))
        assert (page.info.user_id, page.info.created_us, page.info.updated_us, page.info.version) == ("bob", 3, 4, 1)
        assert page.turns == [
            Turn(1, Message("user", "hers"), "q", created_us=4),
            Turn(2, Message("assistant", "cu"), "q", "billing", True, 4),
        ]
        async with owner() as second:
            assert await texts(second) == ["old", "new"]
            with pytest.raises(Fenced):
                await first.append(turn("late"), 4)
    db = sqlite3.connect(old_file)
    assert db.execute("pragma user_version").fetchone() == (SCHEMA.version,)
    assert db.execute("select epoch from ownership").fetchall() == [(2,)]
    tables = {name for (name,) in db.execute("select name from sqlite_schema where type = 'table'")}
    assert tables == {"logs", "heads", "entries", "shares", "record_owners", "records", "ownership"}
    db.close()


async def test_a_file_of_schema_3_keeps_its_turns_without_writing_them_anew(path: Path, owner: Opener) -> None:
    async with owner() as store:
        await store.append(turn("one"), 1)
        await store.append(turn("two"), 2)
    with sqlite3.connect(path) as db:
        db.execute("alter table heads rename column touched_us to updated_us")
        db.execute("alter table heads add column last_seq integer not null default 2")
        db.execute("pragma user_version = 3")
    db.close()
    async with owner() as store:
        assert await texts(store) == ["one", "two"]
        assert (await store.append(turn("three"), 3)).last_seq == 3
        info = await store.get(GetSession("t", "s"))
        assert (info.turns, info.created_us, info.updated_us) == (3, 1, 3)


async def test_an_upgrade_that_fails_leaves_the_file_as_it_was(
    old_file: Path, owner: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = sqlite3.connect(old_file)
    before = list(db.iterdump())
    db.close()
    upgrade = OwnedFile._run

    def fail_half_way(file: OwnedFile, script: str) -> None:
        upgrade(file, script)
        if "upgrade" in script:
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(OwnedFile, "_run", fail_half_way)
    with pytest.raises(StorageError, match="disk I/O error"):
        await SqliteStore(old_file).open()
    db = sqlite3.connect(old_file)
    assert list(db.iterdump()) == before
    db.close()
    monkeypatch.undo()
    async with owner() as store:
        assert await texts(store) == ["old"]


async def test_two_that_open_an_old_file_at_once_leave_one_owner(old_file: Path) -> None:
    stores = [SqliteStore(old_file) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    outcomes = await asyncio.gather(*(s.append(turn(str(i)), 1) for i, s in enumerate(stores)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(Fenced) == 3
    for store in stores:
        await store.close()
