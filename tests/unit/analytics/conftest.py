from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from log_samples import NOON_US, SOURCE

from rayflow.analytics.segments import SegmentWriter
from rayflow.events import Event


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "events"


@pytest.fixture
def writer(root: Path) -> SegmentWriter:
    return SegmentWriter(root, SOURCE)


@pytest.fixture
def write_numbered(writer: SegmentWriter) -> Callable[[range], None]:
    """Writes one segment per number: an event with that `seq`."""

    def write(numbers: range) -> None:
        for number in numbers:
            writer.write([Event("agent.finished", NOON_US + number, seq=number)])

    return write
