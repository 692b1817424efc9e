"""The event log on disk as its actor sees it: an open segment that is appended to. It needs neither Arrow nor DuckDB;
what does, is done by `rayflow.analytics.upkeep` in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rayflow.analytics.files import storage_error
from rayflow.analytics.manifest import Opened, changing, open_path, read_manifest
from rayflow.analytics.opened import Batch, OpenSegment, ends, recover
from rayflow.errors import StorageError
from rayflow.messages import EventBatch


class SegmentLog:
    """Implements the `EventWriter` port. `source`: the address of the actor that writes. An open segment is closed when
    it has `roll_bytes`, or `roll_s` after it was begun."""

    def __init__(self, root: Path, source: str, roll_bytes: int, roll_s: float) -> None:
        self._root = root
        self._source = source
        self._roll_bytes = roll_bytes
        self._roll_s = roll_s
        self._open: OpenSegment | None = None
        self._opened_at = 0.0

    def recover(self) -> dict[str, int]:
        batches: list[Batch] = []
        try:
            for name in read_manifest(self._root)[0].opened:
                with suppress(FileNotFoundError):
                    batches += recover(open_path(self._root, name)).batches
            known = ends(batches)
            # Read last: what was rolled meanwhile stands here.
            for origin in read_manifest(self._root)[0].origins.values():
                known[origin.name] = max(origin.next, known.get(origin.name, 0))
        except OSError as problem:
            raise storage_error(problem, self._root) from problem
        return known

    def append(self, batches: Sequence[EventBatch]) -> None:
        try:
            if self._open is None:
                self._open = self._begin()
            self._open.append(Batch(new.origin, new.first, new.count, new.lines) for new in batches)
        except OSError as problem:
            raise storage_error(problem, self._root) from problem

    def sync(self) -> None:
        if self._open is not None:
            try:
                self._open.sync()
            except OSError as problem:
                # What the kernel could not write it may have thrown away: go on in another file.
                self.close()
                raise storage_error(problem, self._root) from problem

    def seal(self) -> bool:
        if self._open is None or not (
            self._open.size >= self._roll_bytes or time.monotonic() - self._opened_at >= self._roll_s
        ):
            return False
        self.sync()
        self.close()
        return True

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _begin(self) -> OpenSegment:
        """It is in the manifest before anything is in it. Where that fails it stays, empty: it may be listed."""
        opened: OpenSegment | None = None
        try:
            with changing(self._root) as manifest:
                opened = OpenSegment(self._root, self._source)
                manifest.add(Opened(opened.name))
        except StorageError:
            if opened is not None:
                opened.close()
            raise
        self._opened_at = time.monotonic()
        return opened
