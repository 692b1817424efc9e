"""Rolling: an open segment that nobody appends to any more becomes Parquet.

Its rows are in the open segment until the manifest says that they are in Parquet, in the same moment and for the same
reader. Whoever dies in between leaves files in the staging folder that count for nothing, and the open segment as it
was.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rayflow.analytics.convert import to_pieces
from rayflow.analytics.files import QUARANTINE, storage_error
from rayflow.analytics.manifest import Damaged, Stored, changing, open_path, read_manifest
from rayflow.analytics.opened import ends, read_open, take_over
from rayflow.analytics.segments import discard, settle, stage_pieces
from rayflow.errors import StorageError


@dataclass(slots=True)
class Rolled:
    """How many open segments became Parquet, and those that were found damaged. What was whole of them was rolled."""

    rolled: int = 0
    rows: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)


def roll_all(root: Path, source: str) -> Rolled:
    """Roll every open segment whose writer has closed it or is dead. Raises `StorageFull` and `StorageError`."""
    done = Rolled()
    for name in read_manifest(root)[0].opened:
        path = open_path(root, name)
        try:
            lock = take_over(path)
        except FileNotFoundError:
            continue  # readers name it
        except OSError as problem:
            raise storage_error(problem, root) from problem
        if lock is not None:
            try:
                _roll(root, source, name, done)
            finally:
                os.close(lock)
    return done


def _roll(root: Path, source: str, name: str, done: Rolled) -> None:
    path = open_path(root, name)
    staged: list[Stored] = []
    try:
        contents = read_open(path, behind_mark=True)
        if contents.batches:
            staged = stage_pieces(root, source, to_pieces(contents.batches, threads=1), [name])
        if contents.damage:
            _keep(root, path)
        with changing(root) as manifest:
            if name not in manifest.opened:
                discard(root, staged)  # somebody else was faster
                return
            del manifest.opened[name]
            manifest.segments.update({segment.name: segment for segment in staged})
            for origin, following in ends(contents.batches).items():
                manifest.went_on(origin, following, time.time())
            if contents.damage:
                manifest.add(Damaged(name, contents.damage, time.time()))
        settle(root, staged)
        path.unlink(missing_ok=True)
    except StorageError:
        discard(root, staged)
        raise
    except OSError as problem:
        discard(root, staged)
        raise storage_error(problem, root) from problem
    done.rolled += 1
    done.rows += contents.rows
    if contents.damage:
        done.damaged[root / QUARANTINE / name] = contents.damage


def _keep(root: Path, path: Path) -> None:
    """A damaged file stays, for whoever wants to look into it."""
    (root / QUARANTINE).mkdir(exist_ok=True)
    with suppress(FileExistsError):
        os.link(path, root / QUARANTINE / path.name)
