"""A disk that fills up under a running system, and gets room again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from support.whole import Call, Whole, whole

from rayflow.stores.sqlite import SqliteStore

PLENTY = 1_000_000


async def room(store: SqliteStore, pages: int) -> None:
    """By how many pages the file may grow: SQLite fails beyond that as it does on a full disk, and it needs no disk."""

    def limit(db: sqlite3.Connection) -> None:
        (there,) = db.execute("pragma page_count").fetchone()
        db.execute(f"pragma max_page_count = {there + pages}")

    await store.submit(limit, reads=True)


async def ask(t: Whole, text: str, session: str) -> Call:
    return await Call(t.ingress(), "/chat", {"message": text, "session_id": session}).done()


async def test_turns_are_refused_with_507_until_there_is_room_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    acknowledged: dict[str, list[str]] = {"a": [], "b": []}
    async with whole(store=store) as t:
        for time in range(5):
            await room(store, 20)
            refused = None
            for i in range(200):
                session, text = "ab"[i % 2], f"{time}-{i} " + "x" * 2000
                answer = await ask(t, text, session)
                if answer.status == 507:
                    refused = answer
                    break
                assert answer.status == 200, answer.received
                acknowledged[session].append(text)
            assert refused is not None
            assert refused.json["type"] == "urn:rayflow:problem:storage-full"
            assert "free some space; nothing was lost" in refused.json["detail"]
            assert str(tmp_path / "db") in refused.json["detail"]
            read = await Call(t.ingress(), "/sessions/a/history", method="GET").done()
            assert (read.status, len(read.json["turns"]) > 0) == (200, True), read.received
            await room(store, PLENTY)
            assert (await ask(t, f"{time}-again", "a")).status == 200
            acknowledged["a"].append(f"{time}-again")
        for session, texts in acknowledged.items():
            turns = await t.turns(session)
            assert [turn.seq for turn in turns] == list(range(1, len(turns) + 1))
            asked = [turn.message.text for turn in turns if turn.message.role == "user"]
            assert [text for text in asked if text in texts] == texts
