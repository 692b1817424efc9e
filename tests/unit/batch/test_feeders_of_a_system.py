"""Feeders of a whole system within this process: the coordinator keeps them, its routers run the rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rayflow.app.client import SystemClient
from rayflow.app.system import InProcessSystem
from rayflow.batch import ranges
from rayflow.batch.directory import JobDirectory
from rayflow.batch.export import rows_of
from rayflow.batch.inputs.source import Source
from rayflow.batch.run import JobRun
from rayflow.batch.spec import Inputs, JobSpec, Limits
from rayflow.config.schema import WorkflowConfig

ROWS = 40


def job(client: SystemClient, folder: Path, **limits: float) -> JobRun:
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps({"id": f"q{n}", "prompt": f"Question {n}"}) + "\n" for n in range(ROWS)))
    spec = JobSpec(Inputs([str(source)]), limits=Limits(concurrency=4, feeders=2, **limits))  # type: ignore[arg-type]
    directory = JobDirectory(folder / "out")
    return JobRun(client, directory, directory.plan(spec, 0), Source(spec.inputs), total=ROWS, fabric=client.fabric)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkflowConfig:
    monkeypatch.setattr(ranges, "ROWS", 8)
    given = {
        "name": "team",
        "agents": [{"name": "facts"}],
        "storage": {"state": str(tmp_path / "state")},
        "monitoring": {"event_log": False},
    }
    return WorkflowConfig.model_validate(given)


async def up(client: SystemClient, number: int) -> None:
    while len(client.fabric.directory.addresses("feeder/")) != number:
        await asyncio.sleep(0.01)


async def test_a_system_has_feeders_while_a_job_runs(config: WorkflowConfig, tmp_path: Path) -> None:
    async with InProcessSystem(config) as system:
        client = await system.client("owner")
        assert not client.fabric.directory.addresses("feeder/")
        running = asyncio.create_task(job(client, tmp_path).run())
        await up(client, 2)
        status = await running
        assert (status.state, status.totals.ok, status.run) == ("finished", ROWS, ROWS)
        assert [row.id for row in rows_of(JobDirectory(tmp_path / "out"))] == [f"q{n}" for n in range(ROWS)]
        await up(client, 0)
        client.close()


async def test_a_system_that_is_closed_interrupts_a_job_and_the_next_one_finishes_it(
    config: WorkflowConfig, tmp_path: Path
) -> None:
    async with InProcessSystem(config) as system:
        client = await system.client("owner")
        begun = job(client, tmp_path, rows_per_s=40)
        running = asyncio.create_task(begun.run())
        while begun.status.totals.rows < 5:
            await asyncio.sleep(0.01)
        begun.stop()
        assert (await running).state == "interrupted"
        client.close()
    async with InProcessSystem(config) as system:
        client = await system.client("owner")
        status = await job(client, tmp_path).run()
        assert (status.state, status.totals.ok) == ("finished", ROWS) and status.run < ROWS
        client.close()
