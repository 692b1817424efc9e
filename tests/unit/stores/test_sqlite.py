"""What SQLite adds to the contract: few commits, nothing acknowledged lost, and honest refusals."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rayflow.chat import Message
from rayflow.errors import NotFound, StorageError, StorageFull
from rayflow.messages import AppendTurns, DeleteSession, EraseUser, ForkSession, GetHistory, GetSession, SessionInfo
from rayflow.stores.sqlite import SCHEMA, SqliteStore


def turn(session: str = "s", text: str = "x", **more: Any) -> AppendTurns:
    return AppendTurns("t", session, [Message("user", text)], **more)


async def test_writes_that_arrive_together_share_a_commit(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await asyncio.gather(*(store.append(turn(f"s{i}"), 1) for i in range(500)))
    assert store.commits < 50
    await store.close()


async def test_close_finishes_what_was_submitted_and_refuses_the_rest(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    writes = [asyncio.create_task(store.append(turn(), i)) for i in range(50)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StorageError, match="closed"):
        await store.append(turn(), 1)
    await closing
    assert [appended.last_seq for appended in await asyncio.gather(*writes)] == list(range(1, 51))
    await store.close()


async def test_a_cancelled_caller_does_not_disturb_the_others(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    writes = [asyncio.create_task(store.append(turn(), i)) for i in range(10)]
    await asyncio.sleep(0)
    writes[3].cancel()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 9
    await store.close()


async def test_sessions_are_there_after_the_store_is_opened_again(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        store = SqliteStore(tmp_path / "deep" / "er" / "db")
        await store.open()
        assert (await store.append(turn(), 1)).last_seq == expected
        await store.close()


async def test_durability_is_as_configured(tmp_path: Path) -> None:
    found = []
    for mode in ("FULL", "NORMAL"):
        store = SqliteStore(tmp_path / mode, mode)
        await store.open()
        found.append(await store.submit(lambda db: db.execute("pragma synchronous").fetchone()[0]))
        await store.close()
    assert found == [2, 1]


async def test_a_file_of_a_newer_schema_is_refused_and_not_touched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute(f"pragma user_version = {SCHEMA.version + 1}")
    db.close()
    store = SqliteStore(tmp_path / "db")
    with pytest.raises(StorageError, match="newer rayflow"):
        await store.open()
    with pytest.raises(StorageError, match="closed"):
        await store.append(turn(), 1)
    await store.close()
    db = sqlite3.connect(tmp_path / "db")
    assert db.execute("pragma user_version").fetchone() == (SCHEMA.version + 1,)
    assert db.execute("select count(*) from sqlite_schema").fetchone() == (0,)
    db.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database " * 100)
    with pytest.raises(StorageError, match="not a database"):
        await SqliteStore(tmp_path / "db").open()


@pytest.mark.parametrize("path", ["file/db", "full/db"])
async def test_a_folder_that_cannot_be_made_is_a_storage_error_and_no_full_disk(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").touch()
    with pytest.raises(StorageError) as caught:
        await SqliteStore(tmp_path / path).open()
    assert not isinstance(caught.value, StorageFull)


async def test_reads_in_a_batch_whose_commit_fails_are_answered_all_the_same(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await store.append(turn(), 1)

    def fail(db: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    held = asyncio.Event()
    outcomes = await asyncio.gather(
        store.submit(lambda db: _wait_for(held)),
        store.append(turn(), 2),
        store.submit(fail),
        store.get(GetSession("t", "s")),
        store.get(GetSession("t", "none")),
        _set_soon(held),
        return_exceptions=True,
    )
    assert isinstance(outcomes[2], StorageError)
    assert isinstance(outcomes[3], SessionInfo)
    assert isinstance(outcomes[4], NotFound)
    turns = (await store.get(GetSession("t", "s"))).turns
    assert turns == (1 if isinstance(outcomes[1], StorageError) else 2), "acknowledged or not there"
    await store.close()


def _wait_for(held: asyncio.Event) -> None:
    """Keeps the writer thread busy until everything is in its queue."""
    while not held.is_set():
        pass


async def _set_soon(held: asyncio.Event) -> None:
    await asyncio.sleep(0)
    held.set()


APPENDING = """
import asyncio, sys
from pathlib import Path
from rayflow.chat import Message
from rayflow.messages import AppendTurns
from rayflow.stores.sqlite import SqliteStore

async def write(store, session):
    for i in range(1_000_000):
        done = await store.append(AppendTurns("t", session, [Message("user", str(i))]), i)
        print(session, done.last_seq, flush=True)

async def main():
    store = SqliteStore(Path(sys.argv[1]), "FULL")
    await store.open()
    await asyncio.gather(*(write(store, f"s{n}") for n in range(4)))

asyncio.run(main())
"""


async def test_no_acknowledged_turn_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    rng = random.Random(7)
    path = tmp_path / "db"
    acknowledged: dict[str, int] = {}
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", APPENDING, str(path)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(rng.randint(1, 60))]
            child.kill()
            lines += child.stdout.readlines()
        for line in lines:
            if line.endswith("\n"):
                session, seq = line.split()
                acknowledged[session] = max(acknowledged.get(session, 0), int(seq))
    assert set(acknowledged) == {"s0", "s1", "s2", "s3"}
    db = sqlite3.connect(path)
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()
    store = SqliteStore(path)
    await store.open()
    for session, last in acknowledged.items():
        turns = (await store.history(GetHistory("t", session, limit=1_000_000))).turns
        assert [turn.seq for turn in turns] == list(range(1, len(turns) + 1))
        assert last <= len(turns)
    await store.close()


FILLING = """
import asyncio, resource, sys
from pathlib import Path
from rayflow.chat import Message
from rayflow.errors import StorageError
from rayflow.messages import AppendTurns, GetHistory
from rayflow.stores.sqlite import SqliteStore

async def main():
    folder, limit_bytes = Path(sys.argv[1]), int(sys.argv[2])
    store = SqliteStore(folder / "db")
    await store.open()
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    written, slug = 0, ""
    while not slug:
        try:
            appended = await store.append(AppendTurns("t", "s", [Message("user", "x" * 20_000)]), 1)
            written = appended.last_seq
        except StorageError as error:
            slug = error.slug
    reads = asyncio.gather(
        store.history(GetHistory("t", "s", limit=10_000)),
        store.append(AppendTurns("t", "s", [Message("user", "x" * 20_000)]), 1),
        return_exceptions=True,
    )
    history, refused = await reads
    assert isinstance(refused, StorageError), refused
    assert [turn.seq for turn in history.turns] == list(range(1, written + 1)), (written, len(history.turns))
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        (folder / "ballast").unlink()
    assert (await store.append(AppendTurns("t", "s", [Message("user", "again")]), 1)).last_seq == written + 1
    await store.close()
    print(slug)

asyncio.run(main())
"""


def test_when_a_write_fails_earlier_turns_are_readable_and_later_ones_work(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILLING, str(tmp_path), "300000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["storage-failed"], done.stderr


# The mount lives in a namespace of the child, so it is gone with the child, whatever happens.
MOUNTED = ["unshare", "--mount", "--map-root-user", "sh", "-c"]


def mounted(options: str, folder: Path, *command: str) -> list[str]:
    ballast = 'head -c 300000 /dev/zero > "$0/ballast" && mount -o remount,"$1" "$0" && shift && exec "$@"'
    return [*MOUNTED, f'mount -t tmpfs -o size=1m none "$0" && {ballast}', str(folder), options, *command]


@pytest.fixture
def may_mount(tmp_path: Path) -> None:
    try:
        subprocess.run(mounted("rw", tmp_path, "true"), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespaces here")


@pytest.mark.usefixtures("may_mount")
def test_a_full_disk_is_storage_full_until_there_is_room_again(tmp_path: Path) -> None:
    command = mounted("rw", tmp_path, sys.executable, "-c", FILLING, str(tmp_path), "0")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["storage-full"], done.stderr


OPENING = """
import asyncio, sys
from pathlib import Path
from rayflow.errors import StorageError
from rayflow.stores.sqlite import SqliteStore

try:
    asyncio.run(SqliteStore(Path(sys.argv[1]) / "db").open())
except StorageError as error:
    print(error.slug)
"""


@pytest.mark.usefixtures("may_mount")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    command = mounted("ro", tmp_path, sys.executable, "-c", OPENING, str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["storage-failed"], done.stderr


async def test_what_was_erased_is_nowhere_in_the_file_or_its_log(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    for i in range(50):
        await store.append(turn(f"s{i}", f"SECRET{i}" * 200, user_id="ada"), 1)
    await store.append(turn("other", "KEPT", user_id="bob"), 1)
    files = [tmp_path / "db", tmp_path / "db-wal"]
    assert any(b"SECRET" in file.read_bytes() for file in files)
    assert (await store.erase(EraseUser("t", "ada"))).sessions == 50
    assert not any(b"SECRET" in file.read_bytes() for file in files)
    assert b"KEPT" in files[0].read_bytes()
    await store.close()


async def test_a_fork_of_a_long_session_copies_none_of_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await store.append(AppendTurns("t", "s", [Message("user", "x" * 1000)] * 2000), 1)
    for i in range(100):
        await store.fork(ForkSession("t", "s", f"c{i}", 1900), 2)
        await store.append(turn(f"c{i}"), 3)
    assert (await store.get(GetSession("t", "c99"))).turns == 1901
    count = await store.submit(lambda db: db.execute("select count(*) from entries").fetchone()[0])
    assert count == 2000 + 100
    await store.delete(DeleteSession("t", "s"))
    assert await store.submit(lambda db: db.execute("select count(*) from entries").fetchone()[0]) == 1900 + 100
    for i in range(100):
        await store.delete(DeleteSession("t", f"c{i}"))
    left = "select (select count(*) from entries) + (select count(*) from logs) + (select count(*) from shares)"
    assert await store.submit(lambda db: db.execute(left).fetchone()[0]) == 0
    await store.close()


async def test_lists_and_expiry_use_an_index_or_another_connection(tmp_path: Path) -> None:
    """However many sessions there are, a page costs a page."""
    store = SqliteStore(tmp_path / "db")
    await store.open()
    plans: list[str] = []
    for sql in (
        "select * from heads where tenant = 't' and (created_us, session_id) < (1, '') order by created_us desc,"
        " session_id desc limit 10",
        "select * from heads where tenant = 't' and user_id = 'u' and (created_us, session_id) < (1, '')"
        " order by created_us desc, session_id desc limit 10",
    ):
        rows = await store.submit(lambda db: db.execute(f"explain query plan {sql}").fetchall())  # noqa: B023
        plans.append(" ".join(row[3] for row in rows))
    assert "heads_by_age" in plans[0]
    assert "heads_by_user" in plans[1]
    assert not any("B-TREE" in plan or "SCAN" in plan for plan in plans), plans
    await store.close()


async def test_a_damaged_page_is_an_error_and_other_sessions_go_on(tmp_path: Path) -> None:
    """What lies on a page that cannot be read is refused, whole pages are served, and nothing is overwritten."""
    path = tmp_path / "db"
    store = SqliteStore(path)
    await store.open()
    for i in range(200):
        await store.append(turn(f"s{i}", f"marker-{i}-" * 30), 1)
    await store.close()
    data = path.read_bytes()
    at = data.index(b"marker-100-") // 4096 * 4096
    path.write_bytes(data[:at] + b"\xff" * 4096 + data[at + 4096 :])
    store = SqliteStore(path)
    await store.open()
    texts, errors = 0, []
    for i in range(200):
        try:
            [kept] = (await store.history(GetHistory("t", f"s{i}"))).turns
        except StorageError as error:
            errors.append(error)
        else:
            assert kept.message.text == f"marker-{i}-" * 30
            texts += 1
    assert errors
    assert texts > 100
    assert "malformed" in errors[0].message
    assert str(path) in errors[0].message
    assert (await store.append(turn("new"), 1)).last_seq == 1
    await store.close()
    assert path.read_bytes()[at : at + 4096] == b"\xff" * 4096


async def test_a_turn_whose_bytes_were_damaged_is_named(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await store.append(turn(), 1)
    await store.submit(lambda db: db.execute("update entries set message = x'7b22ff' ").rowcount)
    with pytest.raises(StorageError, match="turn 1 of session s is not what was written there"):
        await store.history(GetHistory("t", "s"))
    await store.append(turn(), 1)
    await store.close()
