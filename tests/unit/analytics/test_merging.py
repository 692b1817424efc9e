from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from log_samples import NOON_US, SOURCE, damage_column, files_under

from rayflow.analytics.database import open_log
from rayflow.analytics.merging import FAN_IN, Merged, merge_small
from rayflow.analytics.segments import SEGMENTS_GLOB, STAGING, SegmentWriter
from rayflow.analytics.snapshot import read_rows, take_snapshot
from rayflow.errors import StorageError
from rayflow.events import Event

WriteNumbered = Callable[[range], None]

AT_ONCE = -1.0
"""A grace period that is over before it begins, whatever the resolution of file times."""


def numbers(root: Path) -> list[int]:
    with open_log(root) as log:
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
    assert merge_small(root, SOURCE, grace_s=3600) == Merged()
    assert len(list(root.glob(SEGMENTS_GLOB))) == FAN_IN + 1
    assert merge_small(root, SOURCE, grace_s=AT_ONCE) == Merged(deleted=FAN_IN)
    assert len(list(root.glob(SEGMENTS_GLOB))) == 1
    assert numbers(root) == list(range(FAN_IN))


def test_a_merged_segment_is_merged_again_once_what_it_replaced_is_gone(
    root: Path, write_numbered: WriteNumbered
) -> None:
    for start in range(0, FAN_IN * FAN_IN, FAN_IN):
        write_numbered(range(start, start + FAN_IN))
        merge_small(root, SOURCE)
    assert merge_small(root, SOURCE) == Merged()
    merge_small(root, SOURCE, grace_s=AT_ONCE)
    assert merge_small(root, SOURCE) == Merged(merged=FAN_IN)
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
    assert bad in {segment.path for segment in take_snapshot(root).segments}


def test_only_one_merge_runs_at_a_time(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    with (root / STAGING / "merge.lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert merge_small(root, SOURCE) == Merged()
    assert merge_small(root, SOURCE).merged == FAN_IN


def test_a_merge_that_cannot_write_leaves_all_as_it_was(
    root: Path, write_numbered: WriteNumbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbered(range(FAN_IN))
    before = files_under(root)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("rayflow.analytics.segments.os.fsync", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        merge_small(root, SOURCE)
    assert [path for path in files_under(root) if path.name != "merge.lock"] == before


def test_a_reader_beside_writes_and_merges_sees_every_row_once(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1, 2))

    def write_and_merge() -> None:
        for number in range(2, 200):
            write_numbered(range(number, number + 1))
            if number % 5 == 0:
                merge_small(root, SOURCE, grace_s=1)

    background = Thread(target=write_and_merge)
    background.start()
    looks = 0
    while background.is_alive() or looks == 0:
        seen = numbers(root)
        assert seen == list(range(1, len(seen) + 1))
        looks += 1
    background.join()
    assert numbers(root) == list(range(1, 200))
