from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from log_samples import SOURCE, damage_column

from rayflow.analytics import snapshot
from rayflow.analytics.merging import FAN_IN, merge_small
from rayflow.analytics.schema import SCHEMA, VERSION_KEY
from rayflow.analytics.segments import SEGMENTS_GLOB
from rayflow.analytics.snapshot import take_snapshot

WriteNumbered = Callable[[range], None]


def only_segment(root: Path) -> Path:
    (path,) = root.glob(SEGMENTS_GLOB)
    return path


def test_an_empty_folder_is_an_empty_log(root: Path) -> None:
    root.mkdir()
    assert take_snapshot(root) == snapshot.Snapshot()


def test_segments_come_in_the_order_of_their_writing(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(5))
    seqs = [snapshot.read_rows(segment.path)["seq"][0].as_py() for segment in take_snapshot(root).segments]
    assert seqs == [0, 1, 2, 3, 4]


def test_a_merged_segment_stands_for_those_it_replaces(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    before = {segment.path for segment in take_snapshot(root).segments}
    merge_small(root, SOURCE)
    after = take_snapshot(root)
    (merged,) = after.segments
    assert merged.rows == FAN_IN
    assert merged.replaces == {path.name for path in before}
    assert set(after.replaced) == before


def test_a_clock_that_was_set_back_does_not_bring_replaced_rows_back(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    merge_small(root, SOURCE)
    (merged,) = take_snapshot(root).segments
    early = merged.path.rename(merged.path.with_name("20010101T000000000000-eventlog-0-0.parquet"))
    assert [segment.path for segment in take_snapshot(root).segments] == [early]


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_a_torn_file_is_named_and_the_others_are_kept(root: Path, write_numbered: WriteNumbered, size: int) -> None:
    write_numbered(range(1))
    torn = only_segment(root)
    write_numbered(range(1, 3))
    torn.write_bytes(torn.read_bytes()[:size])
    seen = take_snapshot(root)
    assert list(seen.unreadable) == [torn]
    assert len(seen.segments) == 2


def test_while_a_merged_segment_is_torn_the_old_ones_are_read(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(FAN_IN))
    merge_small(root, SOURCE)
    (merged,) = take_snapshot(root).segments
    merged.path.write_bytes(b"")
    seen = take_snapshot(root)
    assert list(seen.unreadable) == [merged.path]
    assert len(seen.segments) == FAN_IN


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [(None, "not a segment"), ({VERSION_KEY: b"2"}, "schema version 2; this rayflow reads version 1")],
)
def test_a_parquet_file_of_another_kind_is_named(
    root: Path, write_numbered: WriteNumbered, metadata: dict[bytes, bytes] | None, reason: str
) -> None:
    write_numbered(range(1))
    stranger = only_segment(root).with_name("stranger.parquet")
    pq.write_table(SCHEMA.empty_table().replace_schema_metadata(metadata), stranger)
    seen = take_snapshot(root)
    assert reason in seen.unreadable[stranger]
    assert len(seen.segments) == 1


def test_a_flipped_bit_is_found_only_by_verification(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    damage_column(only_segment(root), "seq")
    assert take_snapshot(root).unreadable == {}
    assert "CRC" in take_snapshot(root, verify=True).unreadable[only_segment(root)]


def test_a_link_to_nowhere_is_named(root: Path, write_numbered: WriteNumbered) -> None:
    write_numbered(range(1))
    link = only_segment(root).with_name("link.parquet")
    link.symlink_to(root / "nowhere")
    assert list(take_snapshot(root).unreadable) == [link]


def test_a_segment_merged_away_after_it_was_listed_is_found_in_the_merged_one(
    root: Path, write_numbered: WriteNumbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbered(range(FAN_IN))
    read_footer = snapshot._read_footer

    def merge_and_read_footer(path: Path) -> snapshot.Segment:
        monkeypatch.undo()
        merge_small(root, SOURCE)
        merge_small(root, SOURCE, grace_s=-1)
        return read_footer(path)

    monkeypatch.setattr(snapshot, "_read_footer", merge_and_read_footer)
    seen = take_snapshot(root)
    assert [segment.rows for segment in seen.segments] == [FAN_IN]
    assert seen.unreadable == {}
