from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from rayflow.batch.journal import Journal
from rayflow.batch.row import Row
from rayflow.errors import StorageError, StorageFull


def row(ordinal: int, status: Literal["ok", "error"] = "ok", answer: str = "fine") -> Row:
    return Row(ordinal, f"q{ordinal}", status, answers=[answer])


def rows(journal: Journal) -> list[Row]:
    return [msgspec.json.decode(line, type=Row) for line in journal.lines()]


def test_rows_come_back_in_the_order_of_the_input(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        for ordinal in (3, 1, 7, 2):
            journal.append(row(ordinal))
        assert [row.ordinal for row in rows(journal)] == [1, 2, 3, 7]
        assert journal.get(7) == row(7)
        assert journal.get(4) is journal.get(99) is None
        assert journal.count == 4


def test_the_last_row_of_an_ordinal_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(row(1, "error"))
        journal.append(row(2, "error"))
        journal.append(row(1, "ok", "at last"))
        assert (journal.ok, journal.failed) == (1, 1)
    with Journal(path) as journal:
        assert (journal.ok, journal.failed) == (1, 1)
        assert journal.has_failed(2) and not journal.has_failed(1)
        assert rows(journal)[0].answers == ["at last"]


def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(row(1))
        journal.append(row(2, answer="ünïcode"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            assert journal.count == 1
            journal.append(row(2, answer="ünïcode"))
        assert path.read_bytes() == whole


def test_a_whole_last_line_without_its_line_break_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(row(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with Journal(path) as journal:
        assert journal.count == 1
        journal.append(row(2))
    with Journal(path) as journal:
        assert [row.ordinal for row in rows(journal)] == [1, 2]


def test_damage_before_the_last_line_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for ordinal in (1, 2, 3):
            journal.append(row(ordinal))
    data = bytearray(path.read_bytes())
    place = data.index(b"\n") + 1
    data[place] = 0
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match=f"the line at byte {place} is damaged"):
        Journal(path)
    assert path.read_bytes() == bytes(data)


def test_a_full_disk_leaves_the_rows_before_and_the_next_append_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    write, left = os.write, [20]

    def until_full(descriptor: int, data: bytes) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: left.pop()])

    with Journal(path) as journal:
        journal.append(row(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", until_full)
            with pytest.raises(StorageFull, match=r"journal\.jsonl: no space left"):
                journal.append(row(2))
        assert not journal.has(2)
        journal.append(row(2))
    with Journal(path) as journal:
        assert rows(journal) == [row(1), row(2)]


def test_sync_reaches_the_disk_only_when_there_is_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.sync()
        assert not synced
        journal.append(row(1))
        journal.sync()
        journal.sync()
        assert len(synced) == 1


def test_a_journal_in_any_order_is_indexed_right(tmp_path: Path) -> None:
    rng = random.Random(3)
    last: dict[int, Row] = {}
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for _ in range(500):
            made = row(rng.randint(1, 80), rng.choice(["ok", "error"]), "x" * rng.randint(0, 50))
            last[made.ordinal] = made
            journal.append(made)
        before = rows(journal)
    with Journal(path) as journal:
        assert rows(journal) == before == [last[ordinal] for ordinal in sorted(last)]
        assert journal.failed == sum(row.status == "error" for row in last.values())
