from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from log_samples import NOON_US, SOURCE, as_version_1, damage_column, forget, only_segment

from rayflow.analytics.database import open_log
from rayflow.analytics.files import SEGMENTS_GLOB
from rayflow.analytics.keeping import keep_up
from rayflow.analytics.log import SegmentLog
from rayflow.analytics.merging import FAN_IN
from rayflow.analytics.segments import SegmentWriter
from rayflow.analytics.snapshot import take_snapshot
from rayflow.analytics.upkeep import Task
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch

WriteNumbered = Callable[[range], None]
DAY_S = 86_400.0


def numbers(root: Path) -> list[int]:
    with open_log(root) as log:
        found: list[int] = log.query("SELECT seq FROM events ORDER BY seq")["seq"].to_pylist()
    return found


def now_us() -> int:
    return time.time_ns() // 1000


def test_of_a_log_that_needs_nothing_nothing_is_changed(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(3))
    report = keep_up(Task(str(root), SOURCE))
    assert (report.rolled, report.merged, report.expired, report.moved, report.problems) == (0, 0, 0, 0, {})
    assert numbers(root) == [0, 1, 2]


def test_segments_of_before_there_was_a_manifest_are_taken_into_it(root: Path, writer: SegmentWriter) -> None:
    writer.write([Event("run.started", NOON_US, seq=1)])
    path = only_segment(root)
    as_version_1(path, "1.parquet", [])
    as_version_1(path, "2.parquet", [])
    as_version_1(path, "3.parquet", ["1.parquet"])
    path.unlink()
    forget(root)
    assert keep_up(Task(str(root), SOURCE, grace_s=0)).problems == {}
    assert sorted(path.name for path in root.glob(SEGMENTS_GLOB)) == ["2.parquet", "3.parquet"]
    assert [segment.version for segment in take_snapshot(root).segments] == [1, 1]
    writer.write([Event("run.started", NOON_US, seq=2)])
    assert keep_up(Task(str(root), SOURCE)).problems == {}
    assert len(take_snapshot(root).segments) == 3


def test_a_log_whose_manifest_was_lost_is_found_again(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    keep_up(Task(str(root), SOURCE))
    log = SegmentLog(root, SOURCE, 1 << 20, 3600)
    log.append([EventBatch("a", 0, 1, encode_lines([Event("run.started", NOON_US, seq=FAN_IN)]))])
    log.close()
    forget(root)
    assert numbers(root) == []
    again = SegmentLog(root, SOURCE, 1 << 20, 3600)
    again.append([EventBatch("b", 0, 1, encode_lines([Event("run.started", NOON_US, seq=FAN_IN + 1)]))])
    again.close()
    assert keep_up(Task(str(root), SOURCE)).problems == {}
    assert numbers(root) == list(range(FAN_IN + 2))
    assert take_snapshot(root).unreadable == {}


def test_events_older_than_the_retention_go_and_their_files_after_a_while(root: Path, writer: SegmentWriter) -> None:
    writer.write([Event("run.started", now_us() - round(8 * DAY_S * 1e6), seq=1)])
    writer.write([Event("run.started", now_us() - round(6 * DAY_S * 1e6), seq=2)])
    task = Task(str(root), SOURCE, retention_s=7 * DAY_S, grace_s=3600)
    assert keep_up(task).expired == 1
    assert numbers(root) == [2]
    assert len(list(root.glob(SEGMENTS_GLOB))) == 2
    keep_up(Task(str(root), SOURCE, retention_s=7 * DAY_S, grace_s=0))
    assert len(list(root.glob(SEGMENTS_GLOB))) == 1
    assert take_snapshot(root).unreadable == {}


def cold_task(root: Path, **more: float) -> Task:
    return Task(str(root), SOURCE, cold_uri=f"file://{root.parent}/archive", cold_after_s=DAY_S, **more)


def test_old_segments_move_to_the_cold_file_system_and_answer_from_there(root: Path, writer: SegmentWriter) -> None:
    writer.write([Event("run.started", NOON_US, seq=1, agent="a")])
    writer.write([Event("run.started", now_us(), seq=2, agent="b")])
    assert keep_up(cold_task(root, grace_s=0)).moved == 1
    assert len(list(root.glob(SEGMENTS_GLOB))) == 1
    assert len(list((root.parent / "archive").glob(SEGMENTS_GLOB))) == 1
    assert numbers(root) == [1, 2]
    with open_log(root) as log:
        found = log.query("SELECT seq, agent FROM events WHERE date = DATE '2025-11-21'").to_pylist()
        assert found == [{"seq": 1, "agent": "a"}]
        assert log.unreadable == {}
    assert keep_up(cold_task(root)).moved == 0


def test_cold_segments_expire_too(root: Path, writer: SegmentWriter) -> None:
    writer.write([Event("run.started", NOON_US)])
    keep_up(cold_task(root, grace_s=0))
    report = keep_up(cold_task(root, grace_s=0, retention_s=2 * DAY_S))
    assert (report.expired, report.problems) == (1, {})
    assert list((root.parent / "archive").glob(SEGMENTS_GLOB)) == []
    assert numbers(root) == []


@pytest.mark.parametrize("how", ["altered", "cut", "removed"])
def test_a_cold_segment_that_is_damaged_is_named_and_the_others_answer(
    root: Path, writer: SegmentWriter, how: str
) -> None:
    writer.write([Event("run.started", NOON_US, seq=1)])
    writer.write([Event("run.started", NOON_US + 1, seq=2)])
    keep_up(cold_task(root, grace_s=0))
    first, _ = sorted((root.parent / "archive").glob(SEGMENTS_GLOB))
    match how:
        case "altered":
            damage_column(first, "seq")
        case "cut":
            first.write_bytes(first.read_bytes()[:-5])
        case _:
            first.unlink()
    with open_log(root) as log:
        assert log.query("SELECT seq FROM events").to_pylist() == [{"seq": 2}]
        assert [path.name for path in log.unreadable] == [first.name]


def test_a_copy_that_did_not_come_out_whole_is_not_counted(
    root: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write([Event("run.started", NOON_US)])
    monkeypatch.setattr("rayflow.analytics.cold.ColdStorage._digest", lambda *_: "another")
    report = keep_up(cold_task(root))
    assert report.moved == 0
    assert "altered" in next(iter(report.problems.values()))
    assert len(take_snapshot(root).segments) == 1


def test_a_place_that_is_no_file_system_is_a_problem_and_the_rest_is_done(
    root: Path, write_numbered: WriteNumbered
) -> None:
    write_numbered(range(FAN_IN))
    report = keep_up(Task(str(root), SOURCE, cold_uri="nowhere://x", cold_after_s=0))
    assert list(report.problems) == ["moving to cold storage"]
    assert report.merged == FAN_IN


def test_damage_is_found_by_looking_through_before_anybody_asks(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(2))
    path = take_snapshot(root).segments[0].path
    damage_column(path, "seq")
    assert "altered" in keep_up(Task(str(root), SOURCE)).problems[str(path)]
