"""On Ray: feeders run a job's rows over two nodes; one that is killed, and a driver that is, cost no row."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from rayflow.app.client import SystemClient
from rayflow.app.state import owned
from rayflow.app.system import RaySystem
from rayflow.batch.directory import JobDirectory
from rayflow.batch.export import rows_of
from rayflow.batch.inputs.source import Source
from rayflow.batch.run import JobRun
from rayflow.batch.spec import Inputs, JobSpec, Limits
from rayflow.cluster.ray_cluster import HEALTH_CHECK
from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.messages import ActorStatus, GetStatus, Status
from rayflow.runtime.roster import COORDINATOR

ROWS = 9000
"""Two ranges."""
RATE = 1000.0
"""Most rows a second, so that there is time for what happens meanwhile."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for name, value in HEALTH_CHECK.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", str(value))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    cluster.add_node(num_cpus=4)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def workflow(state: Path) -> WorkflowConfig:
    return from_dict({"name": "team", "agents": [{"name": "facts"}], "storage": {"state": str(state)}})


def job(client: SystemClient, folder: Path) -> JobRun:
    source, directory = folder / "rows.jsonl", JobDirectory(folder / "out")
    spec = JobSpec(Inputs([str(source)]), limits=Limits(concurrency=32, feeders=2, rows_per_s=RATE))
    return JobRun(client, directory, directory.plan(spec, 0), Source(spec.inputs), total=ROWS, fabric=client.fabric)


async def feeders(client: SystemClient, number: int) -> dict[str, ActorStatus]:
    """Wait until so many are there, and ready."""
    while True:
        status: Status = await client.fabric.ask(COORDINATOR, GetStatus(), 5)
        found = {actor.address: actor for actor in status.actors if actor.role == "feeder"}
        if len(found) == number and all(actor.state == "ready" for actor in found.values()):
            return found
        await asyncio.sleep(0.05)


async def rows(begun: JobRun, least: int) -> None:
    while begun.status.totals.rows < least:
        await asyncio.sleep(0.05)


@pytest.mark.timeout(240)
async def test_feeders_run_a_job_over_two_nodes_and_their_deaths_cost_no_row(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"id": f"q{n}", "prompt": f"Question {n}"}) + "\n" for n in range(ROWS))
    )
    with owned(tmp_path / "state") as mine:
        async with RaySystem(workflow(tmp_path / "state"), mine.run_dir, cluster.address) as system:
            client = await system.client("owner")
            assert not await feeders(client, 0)
            begun = job(client, tmp_path)
            running = asyncio.create_task(begun.run())
            found = await feeders(client, 2)
            assert len({actor.node for actor in found.values()}) == 2
            await rows(begun, 1500)
            victim = found["feeder/0"]
            os.kill(victim.pid, signal.SIGKILL)
            while (await feeders(client, 2))["feeder/0"].pid == victim.pid:
                await asyncio.sleep(0.05)
            await rows(begun, 4000)
            # Cancelled as by a second Ctrl-C; the next start goes on.
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            before = sum(1 for _ in rows_of(JobDirectory(tmp_path / "out")))
            assert 4000 <= before < ROWS
            status = await job(client, tmp_path).run()
            assert (status.state, status.totals.ok, status.run) == ("finished", ROWS, ROWS - before)
            assert [row.id for row in rows_of(JobDirectory(tmp_path / "out"))] == [f"q{n}" for n in range(ROWS)]
            await feeders(client, 0)
            client.close()
