"""From the open segment to Parquet: whoever dies at whatever step, every event is in the log once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from log_samples import MOUNTED, NOON_US, SOURCE

from rayflow.analytics.database import open_log
from rayflow.analytics.files import OPEN, QUARANTINE, SEGMENTS_GLOB
from rayflow.analytics.keeping import keep_up
from rayflow.analytics.log import SegmentLog
from rayflow.analytics.rolling import roll_all
from rayflow.analytics.snapshot import take_snapshot
from rayflow.analytics.upkeep import Task
from rayflow.errors import StorageError
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch

ROLL_BYTES = 1 << 16


def batch(first: int, count: int = 10, origin: str = "router") -> EventBatch:
    events = [Event("run.started", NOON_US + number, seq=number) for number in range(first, first + count)]
    return EventBatch(origin, first, count, encode_lines(events))


def opened(root: Path) -> SegmentLog:
    return SegmentLog(root, SOURCE, ROLL_BYTES, 3600)


def numbers(root: Path) -> list[int]:
    with open_log(root) as log:
        found: list[int] = log.query("SELECT seq FROM events ORDER BY seq")["seq"].to_pylist()
        assert log.query("SELECT count(DISTINCT event_id) AS n FROM events").to_pylist() == [{"n": len(found)}]
    return found


@pytest.fixture
def log(root: Path) -> Iterator[SegmentLog]:
    made = opened(root)
    yield made
    made.close()


def test_events_can_be_queried_before_they_are_rolled_and_after(root: Path, log: SegmentLog) -> None:
    log.append([batch(0), batch(10)])
    assert numbers(root) == list(range(20))
    assert roll_all(root, SOURCE).rolled == 0, "somebody is still writing it"
    log.close()
    done = roll_all(root, SOURCE)
    assert (done.rolled, done.rows, done.damaged) == (1, 20, {})
    assert numbers(root) == list(range(20))
    assert take_snapshot(root).batches == []
    assert list((root / OPEN).iterdir()) == []


def test_the_id_of_an_event_is_its_sender_and_its_number(root: Path, log: SegmentLog) -> None:
    log.append([batch(5, 2), batch(0, 1, "session")])
    with open_log(root) as read:
        ids = read.query("SELECT event_id FROM events")["event_id"].to_pylist()
    assert sorted(ids) == ["router-5", "router-6", "session-0"]


def test_a_segment_is_closed_when_it_is_large_or_old_enough(root: Path) -> None:
    log = SegmentLog(root, SOURCE, ROLL_BYTES, 3600)
    assert not log.seal()
    log.append([batch(0)])
    assert not log.seal()
    log.append([batch(10, 2000)])
    assert log.seal()
    assert not log.seal()
    old = SegmentLog(root, SOURCE, ROLL_BYTES, 0)
    old.append([batch(3000)])
    assert old.seal()
    assert roll_all(root, SOURCE).rolled == 2


def test_the_next_incarnation_knows_what_is_there_from_open_segments_and_from_the_manifest(
    root: Path, log: SegmentLog
) -> None:
    log.append([batch(0), batch(0, 3, "session")])
    log.close()
    assert opened(root).recover() == {"router": 10, "session": 3}
    roll_all(root, SOURCE)
    log.append([batch(10)])
    log.close()
    assert opened(root).recover() == {"router": 20, "session": 3}


def test_a_late_event_goes_to_the_day_it_happened_on(root: Path, log: SegmentLog) -> None:
    late = [Event("run.started", NOON_US), Event("run.started", NOON_US - 86_400_000_000 * 3)]
    log.append([EventBatch("router", 0, 2, encode_lines(late))])
    log.close()
    roll_all(root, SOURCE)
    assert sorted(path.parent.name for path in root.glob(SEGMENTS_GLOB)) == ["date=2025-11-18", "date=2025-11-21"]


def test_of_a_damaged_open_segment_the_rest_is_rolled_and_the_damage_stays_named(root: Path, log: SegmentLog) -> None:
    for first in range(0, 50, 10):
        log.append([batch(first)])
    log.close()
    (path,) = (root / OPEN).iterdir()
    data = bytearray(path.read_bytes())
    data[data.index(b'"seq":25')] ^= 1
    path.write_bytes(data)
    left = [*range(20), *range(30, 50)]
    assert numbers(root) == left
    assert list(take_snapshot(root).unreadable) == [path]
    kept = root / QUARANTINE / path.name
    assert list(roll_all(root, SOURCE).damaged) == [kept]
    assert numbers(root) == left
    assert list(take_snapshot(root).unreadable) == [kept]
    assert kept.read_bytes() == data


class Killed(BaseException):
    """The process is gone: nothing after this line happens, and no `except` of ours sees it."""


STEPS = ("fsync", "replace", "link", "unlink", "mkdir")


def dying(monkeypatch: pytest.MonkeyPatch, after: int, fault: type[BaseException]) -> list[str]:
    """The system calls that change something, of which the one numbered `after` fails. What was called."""
    called: list[str] = []

    def failing(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            called.append(name)
            if len(called) == after:
                raise fault(28, "No space left on device")
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in STEPS:
        failing(name)
    return called


@pytest.mark.parametrize("fault", [Killed, OSError])
def test_at_whichever_step_a_roll_ends_every_event_is_in_the_log_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    root.mkdir()
    task = Task(str(root), SOURCE, grace_s=0)
    written = 0
    for step in range(1, 60):
        log = opened(root)
        known = log.recover().get("router", 0)
        assert known == written
        with monkeypatch.context() as patch:
            called = dying(patch, step, fault)
            try:
                log.append([batch(written)])
                written += 10
                log.close()
                keep_up(task)
            except (Killed, StorageError):
                log.close()
        # A process that died may have got further than it could say.
        written = max(written, opened(root).recover().get("router", 0))
        assert numbers(root) == list(range(written))
        assert take_snapshot(root).unreadable == {}
        assert keep_up(task).problems == {}
        assert numbers(root) == list(range(written))
        assert take_snapshot(root).batches == []
        if len(called) < step:
            break
    else:
        pytest.fail("a roll has fewer steps than that")
    assert step > 12


# A process of its own that is killed: it tells what the log has acknowledged, and rolls as fast as it can.
ENDLESS = """
import sys, threading
from pathlib import Path
from rayflow.analytics.keeping import keep_up
from rayflow.analytics.log import SegmentLog
from rayflow.analytics.upkeep import Task
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch

root = Path(sys.argv[1])
log = SegmentLog(root, "eventlog/0", 1 << 16, 0.02)
number = log.recover().get("router", 0)
print("known", number, flush=True)

def upkeep():
    while True:
        keep_up(Task(str(root), "eventlog/0", grace_s=0))

threading.Thread(target=upkeep, daemon=True).start()
while True:
    events = [Event("run.started", 1_763_726_400_000_000 + n, seq=n) for n in range(number, number + 50)]
    log.append([EventBatch("router", number, 50, encode_lines(events))])
    number += 50
    print("acknowledged", number, flush=True)
    log.seal()
"""


@pytest.mark.parametrize("kills", [4])  # fifty of them, in a running system: python -m tests.faults --fault eventlog
def test_a_log_killed_at_any_moment_loses_nothing_acknowledged_and_has_nothing_twice(root: Path, kills: int) -> None:
    rng = random.Random(kills)
    for _ in range(kills):
        with subprocess.Popen([sys.executable, "-c", ENDLESS, str(root)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            time.sleep(rng.random())
            child.kill()
            lines += child.stdout
        whole = [line.split() for line in lines if line.endswith("\n")]
        acknowledged = int(whole[-1][1])
        seen = numbers(root)
        assert take_snapshot(root, verify=True).unreadable == {}
        assert acknowledged <= len(seen)
        assert seen == list(range(len(seen)))


# On a disk of 2 MB that another file fills and frees again.
FULL_DISK = """
import sys
from pathlib import Path
from rayflow.analytics.keeping import keep_up
from rayflow.analytics.log import SegmentLog
from rayflow.analytics.snapshot import take_snapshot
from rayflow.analytics.upkeep import Task
from rayflow.errors import StorageFull
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch

root, written, refused = Path(sys.argv[1]) / "events", 0, 0
log = SegmentLog(root, "eventlog/0", 1 << 20, 3600)

def append():
    global written, refused
    lines = encode_lines([Event("run.started", 1, seq=n, content="x" * 50) for n in range(written, written + 100)])
    try:
        log.append([EventBatch("a", written, 100, lines)])
        written += 100
    except StorageFull:
        refused += 1

append()
ballast = root.parent / "ballast"
with ballast.open("wb", buffering=0) as file:
    while True:
        try:
            file.write(b"x" * 4096)
        except OSError:
            break
while refused < 20:
    append()
full = take_snapshot(root)
print(sum(batch.count for batch in full.batches) == written, len(full.unreadable))
log.close()
print("rolling" in keep_up(Task(str(root), "eventlog/0")).problems)
ballast.unlink()
append()
log.close()
print(keep_up(Task(str(root), "eventlog/0", grace_s=0)).problems)
free = take_snapshot(root, verify=True)
print(sum(segment.rows for segment in free.segments) == written, len(free.unreadable), len(free.batches))
print(sorted(path.name for path in root.rglob("*.tmp")))
"""


def test_a_full_disk_refuses_events_keeps_what_it_has_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    mounted = [part.replace("size=1m", "size=2m") for part in MOUNTED]
    try:
        subprocess.run([*mounted, str(tmp_path), "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespaces here")
    command = [*mounted, str(tmp_path), sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True 0", "True", "{}", "True 0 0", "[]"]
