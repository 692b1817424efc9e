from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from log_samples import NOON_US, SOURCE, as_version_1, damage_column, forget, only_segment

from rayflow.analytics import snapshot
from rayflow.analytics.keeping import clear_away
from rayflow.analytics.manifest import read_manifest
from rayflow.analytics.merging import FAN_IN, merge_small
from rayflow.analytics.schema import SCHEMA, VERSION_KEY
from rayflow.analytics.segments import SegmentWriter, read_rows
from rayflow.analytics.snapshot import Snapshot, take_snapshot
from rayflow.events import Event

WriteNumbered = Callable[[range], None]


def test_an_empty_folder_is_an_empty_log(root: Path) -> None:
    root.mkdir()
    assert take_snapshot(root) == Snapshot()
    assert take_snapshot(root).open_rows().num_rows == 0
    assert take_snapshot(root).cold_rows() is None


def test_segments_come_in_the_order_of_their_writing(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(5))
    seqs = [read_rows(segment.path)["seq"][0].as_py() for segment in take_snapshot(root).segments]
    assert seqs == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_a_torn_file_is_named_and_the_others_are_kept(root: Path, write_numbered: WriteNumbered, size: int) -> None:
    write_numbered(range(1))
    torn = only_segment(root)
    write_numbered(range(1, 3))
    torn.write_bytes(torn.read_bytes()[:size])
    seen = take_snapshot(root)
    assert list(seen.unreadable) == [torn]
    assert len(seen.segments) == 2


def test_a_flipped_bit_is_found_without_being_asked_for(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(2))
    assert take_snapshot(root).unreadable == {}
    path = take_snapshot(root).segments[0].path
    damage_column(path, "seq")
    seen = take_snapshot(root)
    assert "altered" in seen.unreadable[path]
    assert len(seen.segments) == 1


def test_a_file_that_was_removed_is_named(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(2))
    clear_away(root, grace_s=0)
    path = take_snapshot(root).segments[0].path
    path.unlink()
    assert take_snapshot(root).unreadable == {path: "missing"}


def test_a_parquet_file_that_is_none_of_the_log_is_named(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    for name, metadata in (
        ("stranger", None),
        ("newer", {VERSION_KEY: b"99"}),
        ("unlisted", SCHEMA.metadata),
    ):
        table = SCHEMA.empty_table().replace_schema_metadata(metadata)
        pq.write_table(table, next(iter(root.glob("date=*"))) / f"{name}.parquet")
    seen = take_snapshot(root)
    reasons = {path.stem: reason for path, reason in seen.unreadable.items()}
    assert reasons == {
        "stranger": "not a segment of an event log",
        "newer": "written with schema version 99; this rayflow reads version 2",
        "unlisted": "not in the manifest",
    }
    assert len(seen.segments) == 1


def test_a_link_to_nowhere_is_named(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    link = only_segment(root).with_name("link.parquet")
    link.symlink_to(root / "nowhere")
    assert list(take_snapshot(root).unreadable) == [link]


def test_segments_of_before_there_was_a_manifest_count_without_one(root: Path, writer: SegmentWriter) -> None:
    writer.write([Event("run.started", NOON_US, seq=1)])
    path = only_segment(root)
    first, second = as_version_1(path, "1.parquet", []), as_version_1(path, "2.parquet", [])
    merged = as_version_1(path, "3.parquet", ["1.parquet"])
    path.unlink()
    forget(root)
    seen = take_snapshot(root)
    assert [(segment.path, segment.version) for segment in seen.segments] == [(second, 1), (merged, 1)]
    assert seen.unreadable == {}
    damage_column(second, "seq")
    assert list(take_snapshot(root).unreadable) == [second]
    assert first.exists()


def test_without_its_manifest_nothing_of_the_log_is_taken_for_granted(
    root: Path, write_numbered: WriteNumbered
) -> None:
    write_numbered(range(3))
    forget(root)
    seen = take_snapshot(root)
    assert seen.segments == []
    assert list(seen.unreadable.values()) == ["not in the manifest"] * 3


def test_a_segment_merged_away_after_it_was_listed_is_found_in_the_merged_one(
    root: Path, write_numbered: WriteNumbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbered(range(FAN_IN))

    def read_and_merge(root: Path) -> object:
        monkeypatch.undo()
        before = read_manifest(root)
        merge_small(root, SOURCE)
        clear_away(root, grace_s=0)
        return before

    monkeypatch.setattr(snapshot, "read_manifest", read_and_merge)
    seen = take_snapshot(root)
    assert [segment.rows for segment in seen.segments] == [FAN_IN]
    assert seen.unreadable == {}
