"""What the log consists of, found out by a process that is not shut in, and that sees no SQL.

To take a snapshot means to follow a manifest, to note which files were found whole, to make columns of open segments:
with files and threads that a sandbox does not allow. So a fork does it before the sandbox is closed, and hands over
names and rows.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pyarrow as pa

from rayflow.analytics.analyst import confinement
from rayflow.analytics.snapshot import take_snapshot
from rayflow.errors import StorageError

COLD = "cold storage"
"""Named as left out where segments were moved there: SQL from outside has no network to reach it."""


class Findings(msgspec.Struct, frozen=True):
    """`segments`: Parquet files, relative to the log, as are the names in `unreadable`. Or the `error`."""

    segments: list[str] = []
    unreadable: dict[str, str] = {}
    error: str = ""


class Survey:
    """The log in `root` as it is now. `verify`: all of it is read, and what is damaged anywhere left out.

    Raises `StorageError`.
    """

    def __init__(self, root: Path, time_s: float, verify: bool) -> None:
        source, sink = os.pipe()
        me, child = os.getpid(), os.fork()
        if not child:
            try:
                confinement.end_with_parent(me)
                confinement.limit_time(time_s)
                _take(root, verify, sink)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)  # without the farewells of libraries that have threads
        os.close(sink)
        with os.fdopen(source, "rb") as file:
            head = file.readline()
            findings = msgspec.json.decode(head, type=Findings) if head else Findings(error="its reader died")
            if findings.error:
                raise StorageError(f"the event log cannot be read: {findings.error}")
            self.findings = findings
            with pa.ipc.open_stream(file.read()) as stream:
                self.open_rows: pa.Table = stream.read_all()
        os.waitpid(child, 0)


def _take(root: Path, verify: bool, sink: int) -> None:
    with os.fdopen(sink, "wb") as file:
        try:
            snapshot = take_snapshot(root, verify)
            rows = snapshot.open_rows()
        except Exception as problem:
            why = problem.strerror if isinstance(problem, OSError) else None  # its text would name places
            file.write(msgspec.json.encode(Findings(error=why or type(problem).__name__)) + b"\n")
            return
        unreadable = {relative(path, root): reason for path, reason in snapshot.unreadable.items()}
        if snapshot.cold:
            unreadable[COLD] = "not read over HTTP: ask with `rayflow query`"
        segments = [relative(segment.path, root) for segment in snapshot.segments]
        file.write(msgspec.json.encode(Findings(segments, unreadable)) + b"\n")
        with pa.ipc.new_stream(file, rows.schema) as stream:
            stream.write_table(rows)


def relative(path: Path, root: Path) -> str:
    """The name of a file of the log, as clients may know it."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name
