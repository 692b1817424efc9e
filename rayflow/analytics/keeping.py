"""Upkeep: all that is done to the log but appending to it.

It runs in a process of its own that ends again, started by the event log now and then: Arrow and DuckDB take memory
that an idle system should not hold, and time that appending should not wait for. Every step is safe to be killed in, to
be repeated, and to be done by two at once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa

from rayflow.analytics.files import OPEN, QUARANTINE, SEGMENTS_GLOB, STAGING, storage_error
from rayflow.analytics.manifest import Gone, Opened, Stored, changing, read_manifest
from rayflow.analytics.merging import merge_small
from rayflow.analytics.rolling import roll_all
from rayflow.analytics.segments import read_rows, settle
from rayflow.analytics.snapshot import find_segment, read_footer
from rayflow.analytics.upkeep import Report, Task
from rayflow.analytics.verification import BELIEVED_S, Verifier
from rayflow.errors import WorkflowError

STAGED_S = 3600.0
"""What is so old in the staging folder was left there by somebody who died."""
SCRUB_SHARE = 0.5
"""A segment is looked through again when so much of the time is over for which a reader would believe it."""


def keep_up(task: Task) -> Report:
    """Take in what came from before the manifest, roll, merge, expire, move to cold storage, look through, clear
    away."""
    root, report = Path(task.root), Report()

    def step(name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except WorkflowError as problem:
            report.problems[name] = problem.message
        except (OSError, ValueError, pa.ArrowException) as problem:
            report.problems[name] = str(problem)

    def roll() -> None:
        done = roll_all(root, task.source)
        report.rolled = done.rolled
        report.problems.update({str(path): reason for path, reason in done.damaged.items()})

    def merge() -> None:
        done = merge_small(root, task.source)
        report.merged = done.merged
        report.problems.update({str(path): reason for path, reason in done.damaged.items()})

    def expire() -> None:
        report.expired = _expire(root, task.retention_s)

    def move() -> None:
        report.moved = _move_cold(root, task, report)

    step("adopting", lambda: _adopt(root, report))
    step("rolling", roll)
    step("merging", merge)
    if task.retention_s:
        step("expiring", expire)
    if task.cold_uri:
        step("moving to cold storage", move)
    step("looking through", lambda: _look_through(root, report))
    step("clearing away", lambda: clear_away(root, task.grace_s))
    return report


def _adopt(root: Path, report: Report) -> None:
    """List what came to be before there was a manifest. Where the manifest was lost, that is everything."""
    manifest, _ = read_manifest(root)
    lost = manifest.lost or not manifest.generation
    unlisted = [
        path
        for path in root.glob(SEGMENTS_GLOB)
        if path.name not in manifest.segments and path.name not in manifest.gone
    ]
    if not unlisted and not lost:
        return
    found: dict[str, Stored] = {}
    replaced: set[str] = set()
    for path in sorted(unlisted, key=lambda path: path.name, reverse=True):
        try:
            version, count, replaces = read_footer(path)
            if path.name in replaced or (version > 1 and not lost):
                continue
            data = path.read_bytes()
            last_us = read_rows(path)["ts"].cast(pa.int64())[-1].as_py() if count else 0
        except (OSError, ValueError, pa.ArrowException) as problem:
            report.problems[str(path)] = str(problem)
            continue
        replaced |= replaces
        day = path.parent.name.removeprefix("date=")
        digest = hashlib.sha256(data).hexdigest()
        found[path.name] = Stored(path.name, day, count, len(data), digest, last_us, version=version)
    opened = [path.name for path in (root / OPEN).glob("*.events")] if lost else []
    with changing(root) as manifest:
        manifest.lost = False
        for name in opened:
            if name not in replaced and name not in manifest.opened:
                manifest.add(Opened(name))
        for name, segment in found.items():
            if name not in replaced and name not in manifest.segments:
                manifest.add(segment)
        for path in unlisted:
            if path.name in replaced:
                manifest.add(Gone(path.name, path.parent.name.removeprefix("date="), time.time()))


def _expire(root: Path, retention_s: float) -> int:
    """Segments whose last event is too old count no more."""
    now_s = time.time()
    before_us = (now_s - retention_s) * 1e6
    with changing(root) as manifest:
        old = [segment.name for segment in manifest.segments.values() if segment.last_us < before_us]
        for name in old:
            manifest.remove(name, now_s)
        for name in [name for name, damaged in manifest.damaged.items() if damaged.since_s < now_s - retention_s]:
            del manifest.damaged[name]
            (root / QUARANTINE / name).unlink(missing_ok=True)
    return len(old)


def _move_cold(root: Path, task: Task, report: Report) -> int:
    from rayflow.analytics.cold import ColdStorage

    manifest, _ = read_manifest(root)
    before_us = (time.time() - task.cold_after_s) * 1e6
    due = [segment for segment in manifest.segments.values() if not segment.cold and segment.last_us < before_us]
    if not due:
        return 0
    storage, verifier = ColdStorage(task.cold_uri), Verifier(root)
    moved: list[Stored] = []
    for segment in due:
        path = find_segment(root, segment)
        problem = verifier.damage(segment, path) or storage.put(path, segment, verifier)
        if problem:
            report.problems[str(path)] = problem
        else:
            moved.append(segment)
    now_s = time.time()
    with changing(root) as manifest:
        for segment in moved:
            if segment.name in manifest.segments:
                manifest.add(msgspec.structs.replace(segment, cold=task.cold_uri))
                manifest.add(Gone(segment.name, segment.day, now_s))
    verifier.save(manifest.segments)
    return len(moved)


def _look_through(root: Path, report: Report) -> None:
    """Hash what no reader has hashed for long, so that they need not, and damage is found before somebody asks."""
    manifest, _ = read_manifest(root)
    verifier = Verifier(root, believed_s=BELIEVED_S * SCRUB_SHARE)
    for segment in manifest.segments.values():
        if not segment.cold:
            path = find_segment(root, segment)
            try:
                damage = verifier.damage(segment, path)
            except OSError as problem:
                damage = problem.strerror or str(problem)
            if damage:
                report.problems[str(path)] = damage
    verifier.save(manifest.segments)


def clear_away(root: Path, grace_s: float) -> None:
    """Settle what a dead process had not yet, and delete what counts no more since `grace_s`. Raises `StorageError`."""
    manifest, problems = read_manifest(root)
    now_s = time.time()
    for segment in manifest.segments.values():
        staged = segment.staged(root)
        with suppress(FileNotFoundError):
            if not segment.path(root).exists():
                settle(root, [segment])
            if now_s - staged.stat().st_mtime >= grace_s:
                staged.unlink()
    gone = [gone for gone in manifest.gone.values() if now_s - gone.since_s >= grace_s]
    for entry in gone:
        _delete(root, entry)
    if gone:
        with changing(root) as manifest:
            for entry in gone:
                manifest.gone.pop(entry.name, None)
    if problems:
        return  # nothing is deleted for not being listed while the list is damaged
    listed = {*manifest.segments, *manifest.opened}
    staging = root / STAGING
    for path in [*staging.rglob("*.tmp"), *staging.glob(SEGMENTS_GLOB), *(root / OPEN).glob("*.events")]:
        with suppress(OSError):
            if path.name not in listed and now_s - path.stat().st_mtime > STAGED_S:
                path.unlink()


def _delete(root: Path, entry: Gone) -> None:
    try:
        if entry.cold:
            from rayflow.analytics.cold import ColdStorage

            storage = ColdStorage(entry.cold)
            storage.remove(storage.path(entry))
        (root / f"date={entry.day}" / entry.name).unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise storage_error(problem, root) from problem
