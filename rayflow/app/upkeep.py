"""The upkeep of the event log in a process of its own, at low priority, that ends when there is nothing left to do:
what Arrow and DuckDB take in memory goes with it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rayflow.analytics.upkeep import Report, Task
from rayflow.app.children import end_with_parent, spawn

if TYPE_CHECKING:
    from rayflow.config.schema import WorkflowConfig

log = logging.getLogger(__name__)

NICE = 10
DAY_S = 86_400.0


def upkeep_task(root: Path, source: str, config: WorkflowConfig) -> Task:
    monitoring = config.monitoring
    return Task(
        str(root),
        source,
        retention_s=monitoring.retention_days * DAY_S,
        cold_uri=config.storage.cold_events or "",
        cold_after_s=monitoring.cold_after_days * DAY_S,
    )


async def tend(task: Task) -> Report | None:
    """Do the upkeep of one log. What went wrong is logged. None where the process itself failed; the next one goes on
    where it was."""
    process = await spawn("rayflow.app.upkeep", stdin=msgspec.json.encode(task))
    try:
        answer, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()  # safe at any moment
        await process.wait()
        raise
    if process.returncode or not answer:
        log.error("the upkeep of the event log in %s failed with exit code %s", task.root, process.returncode)
        return None
    report = msgspec.json.decode(answer, type=Report)
    for where, problem in report.problems.items():
        log.error("the event log in %s: %s: %s", task.root, where, problem)
    return report


def main() -> None:
    end_with_parent(int(sys.argv[1]))
    os.nice(NICE)
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    from rayflow.analytics.keeping import keep_up

    sys.stdout.buffer.write(msgspec.json.encode(keep_up(task)))


if __name__ == "__main__":
    main()
