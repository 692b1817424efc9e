"""Parquet: one record per row, in a process of its own with limited memory.

A few hundred bytes of a crafted file can ask for any amount of memory, or crash the code that decodes them. So a child
decodes (`parquet_process`), a few rows at a time, and only it can fall. A row group that it cannot read, or dies on,
gives one fault for each row that it declares, so that the rows after it keep their ordinals; reading goes on with the
next one. A file whose footer cannot be read is refused. Page checksums are verified where the file has them: without,
a flipped bit passes unnoticed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.places import Place
from rayflow.batch.inputs.records import Entry, Fault, Record, size
from rayflow.errors import BY_SLUG, ValidationError

CHILD = "rayflow.batch.inputs.parquet_process"


class Task(msgspec.Struct, frozen=True):
    """What the child is asked: these columns of a file, from this row group on. `columns`: [] for all."""

    path: str
    wanted: list[str]
    columns: list[str]
    group: int
    bounds: Bounds


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One frame of its answer. `opened`: `groups` has the rows that each row group declares. `rows`: the next ones of
    `group`; of those that cannot be had, `faults` has (index, slug, why). `unread`: the rest of `group` cannot be read.
    `refused`: nothing can. `end`: that was all."""

    kind: Literal["opened", "rows", "unread", "refused", "end"]
    group: int = 0
    groups: list[int] = []
    rows: list[object] = []
    faults: list[tuple[int, str, str]] = []
    slug: str = ""
    why: str = ""


def read_parquet(place: Place, wanted: Sequence[str], columns: Sequence[str], bounds: Bounds) -> Iterator[Entry]:
    """Rows as dicts of `columns`, of all columns where there are none. Raises `ValidationError` where the file is
    unreadable, too large or has no column of `wanted`."""
    died = f"reading it takes more than {size(bounds.memory_bytes)}, or ends the process that reads it"
    groups: list[int] = []
    group = done = 0
    while True:
        for said in _ask(Task(place.path, list(wanted), list(columns), group, bounds)):
            if said.kind == "opened":
                groups = said.groups
                continue
            if said.kind == "refused":
                raise BY_SLUG.get(said.slug, ValidationError)(f"{place.path}: {said.why}", param=place.path)
            if said.kind == "end":
                return
            if said.group != group:
                group, done = said.group, 0
            if said.kind == "unread":
                yield from _unread(group, groups[group] - done, said.why)
                done = groups[group]
            else:
                yield from _entries(said)
                done += len(said.rows)
        if not groups:
            raise ValidationError(f"{place.path}: not a readable Parquet file: {died}", param=place.path)
        yield from _unread(group, groups[group] - done, died)
        group, done = group + 1, 0
        if group == len(groups):
            return


def _entries(said: Said) -> Iterator[Entry]:
    faults = {index: (slug, why) for index, slug, why in said.faults}
    for index, value in enumerate(said.rows):
        yield Fault(*faults[index]) if index in faults else Record(value)


def _unread(group: int, rows: int, why: str) -> Iterator[Fault]:
    for _ in range(rows):
        yield Fault.of(ValidationError, f"row group {group} of the Parquet file cannot be read: {why}")


def _ask(task: Task) -> Iterator[Said]:
    """What the child says until it ends, however it ends."""
    command = [sys.executable, "-m", CHILD, str(os.getpid())]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
    )
    assert child.stdin is not None and child.stdout is not None
    decoder = msgspec.msgpack.Decoder(Said)
    try:
        child.stdin.write(msgspec.msgpack.encode(task))
        child.stdin.close()
        while len(head := child.stdout.read(4)) == 4:
            data = child.stdout.read(int.from_bytes(head, "big"))
            yield decoder.decode(data)
    finally:
        child.stdout.close()
        child.kill()
        child.wait()
