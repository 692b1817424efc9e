"""One flipped bit, or a file that was cut off, anywhere in the log: it is found and named, and the others answer."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from log_samples import NOON_US, SOURCE

from rayflow.analytics.convert import to_rows
from rayflow.analytics.files import OPEN, SEGMENTS_GLOB
from rayflow.analytics.log import SegmentLog
from rayflow.analytics.manifest import COPY, MANIFEST
from rayflow.analytics.segments import SegmentWriter
from rayflow.analytics.snapshot import take_snapshot
from rayflow.analytics.verification import NOTES
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch

FLIPS, CUTS = 200, 50


@pytest.fixture
def log(root: Path, writer: SegmentWriter) -> Path:
    for number in range(4):
        writer.write([Event("run.started", NOON_US + i, seq=number, run_id=f"run_{i * 7919:x}") for i in range(300)])
    opened = SegmentLog(root, SOURCE, 1 << 30, 3600)
    for number in range(50):
        events = [Event("run.started", NOON_US, seq=100 + number)] * 10
        opened.append([EventBatch("router", number * 10, 10, encode_lines(events))])
    opened.close()
    take_snapshot(root)  # and what was found is noted
    return root


def victims(root: Path) -> list[Path]:
    return [*root.glob(SEGMENTS_GLOB), *(root / OPEN).iterdir(), root / MANIFEST]


def check(root: Path, path: Path) -> None:
    """That the file is named, and every row of the others is there."""
    seen = take_snapshot(root)
    assert list(seen.unreadable) == [path]
    segments = sum(segment.rows for segment in seen.segments)
    rows = sum(batch.count for batch in seen.batches)
    if path.suffix == ".parquet":
        assert (segments, rows) == (900, 500)
    elif path.name == MANIFEST:
        assert (segments, rows) == (1200, 500)
    else:
        assert segments == 1200
        assert all(bytes(batch.lines).count(b"\n") == batch.count for batch in seen.batches)
        assert rows <= 500


def test_a_flipped_bit_at_random_places(log: Path) -> None:
    rng = random.Random(6)
    paths = victims(log)
    for number in range(FLIPS):
        path = paths[number % len(paths)]
        whole, times = path.read_bytes(), path.stat()
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        if number % 2:  # and whoever did it hides it
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        check(log, path)
        path.write_bytes(whole)
    assert take_snapshot(log).unreadable == {}


def test_files_that_were_cut_off_at_random_places(log: Path) -> None:
    rng = random.Random(6)
    paths = victims(log)
    for number in range(CUTS):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        path.write_bytes(whole[: rng.randrange(len(whole))])
        check(log, path)
        path.write_bytes(whole)


def test_what_can_be_read_of_a_damaged_open_segment_becomes_rows(log: Path) -> None:
    (path,) = (log / OPEN).iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    rows = to_rows(take_snapshot(log).batches)
    assert 200 < rows.num_rows < 300


def test_a_bit_that_rots_without_a_trace_is_found_when_all_is_verified_and_after_a_day(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(iter(log.glob(SEGMENTS_GLOB)))
    notes = (log / NOTES).read_bytes()
    before = path.stat()
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    stat = os.fstat

    def as_before(file: int) -> object:
        found = stat(file)
        return before if found.st_ino == before.st_ino else found

    monkeypatch.setattr("rayflow.analytics.verification.os.fstat", as_before)
    assert (log / NOTES).read_bytes() == notes
    assert take_snapshot(log).unreadable == {}
    assert list(take_snapshot(log, verify=True).unreadable) == [path]
    tomorrow = time.time() + 90_000
    monkeypatch.setattr("rayflow.analytics.verification.time.time", lambda: tomorrow)
    assert list(take_snapshot(log).unreadable) == [path]


def test_damaged_notes_are_no_notes(log: Path) -> None:
    notes = log / NOTES
    whole = notes.read_bytes()
    path = next(iter(log.glob(SEGMENTS_GLOB)))
    path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2"))
    for damaged in (b"", whole[:-3], whole.replace(b"[", b"{", 1)):
        notes.write_bytes(damaged)
        assert list(take_snapshot(log).unreadable) == [path]


def test_both_manifests_damaged_cost_the_files_they_were_about_and_no_others(log: Path) -> None:
    first = min(log.glob(SEGMENTS_GLOB))
    for name in (MANIFEST, COPY):
        path = log / name
        path.write_bytes(path.read_bytes().replace(first.name.encode(), first.name.encode().upper()))
    seen = take_snapshot(log)
    assert set(seen.unreadable) == {log / MANIFEST, log / COPY, first}
    assert sum(segment.rows for segment in seen.segments) == 900
