"""The event log on disk as its actor sees it: segments are written, and now and then merged."""

from __future__ import annotations

import logging
from pathlib import Path

from rayflow.analytics.merging import merge_small
from rayflow.analytics.segments import SegmentWriter
from rayflow.events import Event

log = logging.getLogger(__name__)


class ParquetLog:
    """Implements the `EventWriter` port. `source`: the address of the actor that writes."""

    def __init__(self, root: Path, source: str) -> None:
        self._root = root
        self._source = source
        self._writer = SegmentWriter(root, source)

    def write(self, events: list[Event]) -> None:
        self._writer.write(events)

    def tidy(self) -> None:
        for damaged in merge_small(self._root, self._source).damaged:
            log.error("event segment %s is damaged; queries will say so", damaged)

    def close(self) -> None:
        self._writer.close()
