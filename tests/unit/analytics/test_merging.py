from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from log_samples import NOON_US, SOURCE, damage_column, files_under

from rayflow.analytics.database import open_log
from rayflow.analytics.files import SEGMENTS_GLOB
from rayflow.analytics.keeping import clear_away
from rayflow.analytics.merging import FAN_IN, Merged, merge_small
from rayflow.analytics.segments import SegmentWriter, read_rows
from rayflow.analytics.snapshot import take_snapshot
from rayflow.errors import StorageError
from rayflow.events import Event

WriteNumbered = Callable[[range], None]


def numbers(root: Path) -> list[int]:
    with open_log(root) as log:
        assert log.unreadable == {}
        found: list[int] = log.query("SELECT seq FROM events ORDER BY seq")["seq"].to_pylist()
    return found


def test_many_small_segments_of_a_day_become_one(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    assert merge_small(root, SOURCE) == Merged(merged=FAN_IN)
    (merged,) = take_snapshot(root).segments
    assert read_rows(merged.path)["ts"].to_pylist() == sorted(read_rows(merged.path)["ts"].to_pylist())
    assert numbers(root) == list(range(FAN_IN))


def test_few_segments_are_left_alone(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN - 1))
    assert merge_small(root, SOURCE) == Merged()


def test_days_are_not_mixed(root: Path, writer: SegmentWriter) -> None:
    for number in range(FAN_IN):
        writer.write([Event("run.started", NOON_US), Event("run.started", NOON_US + 86_400_000_000, seq=number)])
    assert merge_small(root, SOURCE).merged == 2 * FAN_IN
    assert {segment.path.parent.name: segment.rows for segment in take_snapshot(root).segments} == {
        "date=2025-11-21": FAN_IN,
        "date=2025-11-22": FAN_IN,
    }


def test_segments_of_very_different_size_are_not_merged(root: Path, writer: SegmentWriter) -> None:
    for number in range(FAN_IN):
        rows = 1 if number % 2 else 100
        writer.write([Event("run.started", NOON_US + row) for row in range(rows)])
    assert merge_small(root, SOURCE) == Merged()


def test_replaced_segments_are_deleted_only_after_the_grace_period(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    merge_small(root, SOURCE)
    clear_away(root, grace_s=3600)
    assert len(list(root.glob(SEGMENTS_GLOB))) == FAN_IN + 1
    assert numbers(root) == list(range(FAN_IN))
    clear_away(root, grace_s=0)
    assert len(list(root.glob(SEGMENTS_GLOB))) == 1
    assert numbers(root) == list(range(FAN_IN))


def test_merged_segments_are_merged_again(root: Path, write_numbered: WriteNumbered) -> None:
    for start in range(0, FAN_IN * FAN_IN, FAN_IN):
        write_numbered(range(start, start + FAN_IN))
        merge_small(root, SOURCE)
    merge_small(root, SOURCE)
    assert merge_small(root, SOURCE) == Merged()
    assert [segment.rows for segment in take_snapshot(root).segments] == [FAN_IN * FAN_IN]
    assert numbers(root) == list(range(FAN_IN * FAN_IN))


def test_a_damaged_segment_stays_where_it_is_and_is_named(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    (bad,) = root.glob(SEGMENTS_GLOB)
    write_numbered(range(1, FAN_IN))
    damage_column(bad, "seq")
    done = merge_small(root, SOURCE)
    assert done.merged == FAN_IN - 1
    assert list(done.damaged) == [bad]
    assert list(take_snapshot(root).unreadable) == [bad]


def test_of_two_merges_at_once_one_counts(
    root: Path, write_numbered: WriteNumbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbered(range(FAN_IN))
    stage = merge_small.__globals__["stage_segments"]

    def stage_while_another_merges(*arguments: object) -> object:
        monkeypatch.undo()
        assert merge_small(root, SOURCE).merged == FAN_IN
        return stage(*arguments)

    monkeypatch.setattr("rayflow.analytics.merging.stage_segments", stage_while_another_merges)
    assert merge_small(root, SOURCE) == Merged()
    assert numbers(root) == list(range(FAN_IN))


def test_a_merge_that_cannot_write_leaves_all_as_it_was(
    root: Path, write_numbered: WriteNumbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbered(range(FAN_IN))
    before = files_under(root)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("rayflow.analytics.files.os.fsync", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        merge_small(root, SOURCE)
    assert files_under(root) == before


def test_a_reader_beside_writes_and_merges_sees_every_row_once(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1, 2))

    def write_and_merge() -> None:
        for number in range(2, 60):
            write_numbered(range(number, number + 1))
            if number % 5 == 0:
                merge_small(root, SOURCE)
                clear_away(root, grace_s=1)

    background = Thread(target=write_and_merge)
    background.start()
    looks = 0
    while background.is_alive() or looks == 0:
        seen = numbers(root)
        assert seen == list(range(1, len(seen) + 1))
        looks += 1
    background.join()
    assert numbers(root) == list(range(1, 60))
