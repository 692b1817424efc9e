"""The upkeep of the event log as a process of its own."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from rayflow.analytics.log import SegmentLog
from rayflow.analytics.snapshot import take_snapshot
from rayflow.analytics.upkeep import Task
from rayflow.app import upkeep
from rayflow.app.upkeep import tend, upkeep_task
from rayflow.config.schema import WorkflowConfig
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch


@pytest.fixture
def root(tmp_path: Path) -> Path:
    log = SegmentLog(tmp_path / "events", "eventlog/0", 1 << 20, 3600)
    log.append([EventBatch("a", 0, 2, encode_lines([Event("run.started", 1, seq=seq) for seq in range(2)]))])
    log.close()
    return tmp_path / "events"


async def test_a_process_of_its_own_rolls_what_was_closed(root: Path) -> None:
    report = await tend(Task(str(root), "eventlog/0"))
    assert report is not None
    assert (report.rolled, report.problems) == (1, {})
    snapshot = take_snapshot(root)
    assert ([segment.rows for segment in snapshot.segments], snapshot.batches) == ([2], [])


async def test_what_goes_wrong_is_logged(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = await tend(Task(str(root), "eventlog/0", cold_uri="nowhere://x"))
    assert report is not None
    assert report.rolled == 1
    assert "moving to cold storage" in caplog.text


async def test_a_process_that_fails_is_logged(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spawn = upkeep.spawn
    monkeypatch.setattr(upkeep, "spawn", lambda _, **options: spawn("rayflow.app.nothing_of_this_name", **options))
    assert await tend(Task(str(root), "eventlog/0")) is None
    assert "failed with exit code 1" in caplog.text


async def test_who_waits_no_more_ends_the_process(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    waiting = asyncio.create_task(tend(Task(str(root), "eventlog/0")))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert caplog.text == ""


def test_the_task_is_what_the_configuration_says() -> None:
    config = WorkflowConfig.model_validate(
        {
            "name": "shop",
            "agents": [{"name": "billing"}],
            "monitoring": {"retention_days": 2, "cold_after_days": 0.5},
            "storage": {"cold_events": "s3://bucket/events"},
        }
    )
    task = upkeep_task(Path("/events"), "eventlog/0", config)
    assert (task.retention_s, task.cold_after_s, task.cold_uri) == (172_800, 43_200, "s3://bucket/events")
