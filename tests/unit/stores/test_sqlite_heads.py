"""What the writer of a shard remembers changes nothing but the time that a turn takes."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rayflow.chat import Message
from rayflow.errors import Conflict, StorageError, WorkflowError
from rayflow.messages import (
    AppendTurns,
    CloseSession,
    DeleteSession,
    ForkSession,
    GetHistory,
    GetSession,
    RollBackRun,
    UpdateSession,
)
from rayflow.stores.sqlite import SqliteStore
from rayflow.stores.sqlite_heads import Heads


def turn(session: str = "s", text: str = "x", **more: Any) -> AppendTurns:
    return AppendTurns("t", session, [Message("user", text)], **more)


def anything(rng: random.Random, now_us: int) -> tuple[str, tuple[Any, ...]]:
    """A request that may well be refused."""
    session, run = f"s{rng.randrange(3)}", f"r{rng.randrange(4)}"
    match rng.randrange(12):
        case 0:
            return "update", (UpdateSession("t", session, title=str(now_us)), now_us)
        case 1:
            return "roll_back", (RollBackRun("t", session, run), now_us)
        case 2:
            return "fork", (ForkSession("t", session, f"s{rng.randrange(3)}"), now_us)
        case 3:
            return rng.choice([("delete", (DeleteSession("t", session),)), ("get", (GetSession("t", session),))])
        case 4:
            return "close_session", (CloseSession("t", f"s{rng.randrange(30)}"), now_us)
        case _:
            roles = rng.choice([["user"], ["assistant"], ["user", "assistant"], ["assistant"] * 2, []])
            messages = [Message(role, str(now_us)) for role in roles]
            expected = rng.choice([-1, -1, -1, 0, 1, 2])
            partial, window = rng.random() < 0.2, rng.randrange(4)
            request = AppendTurns("t", session, messages, rng.choice([run, run, ""]), "ada", "", expected, window)
            if partial:
                request = AppendTurns("t", session, messages, run, partial=True, window=window)
            return "append", (request, now_us)


async def outcome(store: Any, name: str, args: tuple[Any, ...]) -> Any:
    try:
        return await getattr(store, name)(*args)
    except WorkflowError as error:
        return type(error), error.details


@pytest.mark.parametrize("limit", [1, 2, 1024])
@pytest.mark.parametrize("seed", range(8))
async def test_whoever_remembers_answers_as_one_that_looks_everything_up(tmp_path: Path, limit: int, seed: int) -> None:
    rng, stores = random.Random(seed), []
    for remembered in (limit, 0):
        stores.append(SqliteStore(tmp_path / str(remembered), "NORMAL"))
        stores[-1]._heads = Heads(remembered)
        await stores[-1].open()
    for now_us in range(1, 300):
        name, args = anything(rng, now_us)
        found, expected = [await outcome(store, name, args) for store in stores]
        assert found == expected, (now_us, name, args)
    for session in ("s0", "s1", "s2"):
        found, expected = [await outcome(store, "history", (GetHistory("t", session, limit=1000),)) for store in stores]
        assert found == expected
    for store in stores:
        await store.close()


async def test_what_a_failed_commit_took_back_is_forgotten(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await store.append(turn(), 1)

    def fail(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    results = await asyncio.gather(store.append(turn(), 2), store.submit(fail), return_exceptions=True)
    assert [type(result) for result in results] == [StorageError, StorageError]
    assert (await store.append(turn(), 3)).last_seq == 2
    await store.close()


async def test_a_request_that_breaks_after_it_wrote_something_takes_only_itself_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await store.append(turn("before"), 1)

    def break_half_way(db: sqlite3.Connection) -> None:
        db.execute("delete from entries")
        raise Conflict("changed its mind")

    results = await asyncio.gather(
        store.append(turn("before"), 2),
        store.submit(break_half_way),
        store.append(turn("before"), 3),
        store.append(turn("after", run_id="r"), 4),
        return_exceptions=True,
    )
    assert isinstance(results[1], Conflict)
    assert [result.last_seq for result in results if not isinstance(result, BaseException)] == [2, 3, 1]
    assert [turn.created_us for turn in (await store.history(GetHistory("t", "before"))).turns] == [1, 2, 3]
    await store.close()


async def test_a_run_is_recognised_among_many_and_after_the_store_was_opened_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    for i in range(70):
        await store.append(turn(run_id=f"r{i}"), i)
    assert (await store.append(turn(run_id="r6"), 100)).last_seq == 7
    assert (await store.append(turn(run_id="r69"), 100)).last_seq == 70
    await store.close()
    await store.open()
    assert (await store.append(turn(run_id="r6"), 100)).last_seq == 7
    assert (await store.append(turn(run_id="new"), 100)).last_seq == 71
    await store.close()


async def test_a_turn_writes_its_own_page_and_no_other(tmp_path: Path) -> None:
    """So its cost does not depend on how many sessions there are."""
    store = SqliteStore(tmp_path / "db")
    await store.open()
    await asyncio.gather(*(store.append(turn(f"s{i}"), 1) for i in range(2000)))
    await store.append(turn("s7"), 2)  # makes room among its neighbours
    await store.submit(lambda db: db.execute("pragma wal_checkpoint(truncate)").fetchall(), reads=True)
    await store.append(turn("s7"), 3)
    assert (tmp_path / "db-wal").stat().st_size == 32 + 24 + 4096
    await store.close()
