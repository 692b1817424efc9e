from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from log_samples import NOON_US, SOURCE

from rayflow.analytics.segments import SegmentWriter
from rayflow.events import Event


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here pulls the plug, and to wait for the disk is most of what they would take."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


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
