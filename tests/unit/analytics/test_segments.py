from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from log_samples import NOON_US, SOURCE, damage_column, files_under

from rayflow.analytics import segments
from rayflow.analytics.database import open_log
from rayflow.analytics.schema import SCHEMA
from rayflow.analytics.segments import SEGMENTS_GLOB, STAGING, SegmentWriter
from rayflow.analytics.snapshot import read_rows, take_snapshot
from rayflow.errors import StorageError
from rayflow.events import Event

DAY_US = 86_400_000_000


def test_events_land_in_the_partition_of_their_utc_day(root: Path, writer: SegmentWriter) -> None:
    midnight = NOON_US + DAY_US // 2
    writer.write([Event("run.started", midnight, run_id="b"), Event("run.started", midnight - 1, run_id="a")])
    runs = {path.parent.name: read_rows(path)["run_id"].to_pylist() for path in root.glob(SEGMENTS_GLOB)}
    assert runs == {"date=2025-11-21": ["a"], "date=2025-11-22": ["b"]}


def test_a_segment_is_sorted_by_time_and_has_the_schema(root: Path, writer: SegmentWriter) -> None:
    writer.write([Event("run.started", NOON_US + offset, seq=offset) for offset in (3, 1, 2)])
    (path,) = root.glob(SEGMENTS_GLOB)
    rows = read_rows(path)
    assert rows.schema.equals(SCHEMA)
    assert rows["seq"].to_pylist() == [1, 2, 3]
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"


def test_a_segment_is_durable_before_readers_see_it_and_its_name_afterwards(
    root: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []

    def record(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").readlink().name[-12:], len(list(root.glob(SEGMENTS_GLOB)))))

    monkeypatch.setattr("rayflow.analytics.segments.os.fsync", record)
    writer.write([Event("run.started", NOON_US)])
    assert synced == [(".parquet.tmp", 0), ("events", 0), ("e=2025-11-21", 1)]


def test_an_empty_batch_writes_nothing(root: Path, writer: SegmentWriter) -> None:
    writer.write([])
    assert files_under(root) == []


def test_only_segments_remain_after_a_write(root: Path, writer: SegmentWriter) -> None:
    for second in range(3):
        writer.write([Event("run.started", NOON_US + second)])
    assert files_under(root) == sorted(root.glob(SEGMENTS_GLOB))
    assert len(files_under(root)) == 3


def test_damage_breaks_a_page_checksum(root: Path, writer: SegmentWriter) -> None:
    writer.write([Event("run.started", NOON_US + i, run_id=f"run_{i * 7919}") for i in range(1000)])
    (path,) = root.glob(SEGMENTS_GLOB)
    damage_column(path, "run_id")
    with pytest.raises(OSError, match="CRC"):
        read_rows(path)


def test_leftovers_of_a_killed_writer_are_removed_at_its_next_start(root: Path, writer: SegmentWriter) -> None:
    mine, other = root / STAGING / "eventlog-0" / "x.parquet.tmp", root / STAGING / "eventlog-1" / "x.parquet.tmp"
    other.parent.mkdir()
    mine.touch()
    other.touch()
    SegmentWriter(root, SOURCE)
    assert files_under(root) == [other]


def test_a_root_that_cannot_be_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "events").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        SegmentWriter(tmp_path / "events", SOURCE)


def test_a_batch_whose_names_cannot_be_made_durable_is_taken_back(
    root: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error", str(folder))

    (root / "date=2025-11-21").mkdir()
    monkeypatch.setattr(segments, "_sync_folder", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        writer.write([Event("run.started", NOON_US)])
    assert files_under(root) == []


# In a process of its own: a limit of the file size, or a mount, would stay with the test session.
FAILING_WRITE = """
import resource, sys
from pathlib import Path
from rayflow.analytics.segments import SegmentWriter
from rayflow.errors import StorageError
from rayflow.events import Event

root, limit_bytes, day_us = Path(sys.argv[1]), int(sys.argv[2]), 86_400_000_000
writer = SegmentWriter(root, "eventlog/0")
if limit_bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
writer.write([Event("run.started", 1)])
big = [Event("run.started", day_us + i, error_message=f"{hash((i, j)):x}" * 8) for j in range(4) for i in range(20_000)]
try:
    writer.write([Event("run.started", 2), *big])
except StorageError as error:
    print(error.slug)
writer.write([Event("run.started", 3)])
print(*sorted(path.parent.name for path in root.rglob("*") if path.is_file()))
"""


def test_a_write_that_fails_half_way_leaves_nothing_and_the_next_one_works(root: Path) -> None:
    command = [sys.executable, "-c", FAILING_WRITE, str(root), "100000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["storage-failed", "date=1970-01-01", "date=1970-01-01"]


def test_a_full_disk_is_storage_full_and_leaves_nothing(tmp_path: Path) -> None:
    # The mount lives in a namespace of the child, so it is gone with the child, whatever happens.
    mounted = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"',
    ]
    try:
        subprocess.run([*mounted, "sh", str(tmp_path), "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespaces here")
    command = [*mounted, "sh", str(tmp_path), sys.executable, "-c", FAILING_WRITE, str(tmp_path), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["storage-full", "date=1970-01-01", "date=1970-01-01"]


ENDLESS_WRITES = """
import itertools, sys
from pathlib import Path
from rayflow.analytics.merging import merge_small
from rayflow.analytics.segments import SegmentWriter
from rayflow.events import Event

root, batch_rows = Path(sys.argv[1]), 50
writer = SegmentWriter(root, "eventlog/0")
for batch in itertools.count(int(sys.argv[2])):
    writer.write([Event("agent.finished", 1 + row, seq=batch) for row in range(batch_rows)])
    print(batch, flush=True)
    if batch % 16 == 0:
        merge_small(root, "eventlog/0", grace_s=0)
"""


def test_a_writer_killed_at_any_moment_loses_no_batch_and_tears_no_file(root: Path) -> None:
    """Each round kills the writer, which also merges, later. What it acknowledged must be there, whole, once."""
    acknowledged: set[int] = set()
    seen: set[int] = set()
    for round_number in range(6):
        command = [sys.executable, "-c", ENDLESS_WRITES, str(root), str(max(seen, default=-1) + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(5 + 7 * round_number):
                acknowledged.add(int(child.stdout.readline()))
            child.kill()
            acknowledged.update(int(line) for line in child.stdout)
        assert take_snapshot(root, verify=True).unreadable == {}
        with open_log(root) as log:
            batches = log.query("SELECT seq, count(*) AS rows FROM events GROUP BY seq")
        assert set(batches["rows"].to_pylist()) == {50}
        seen = set(batches["seq"].to_pylist())
        assert acknowledged <= seen
        assert len(seen - acknowledged) <= round_number + 1
