"""On Ray: the process that runs batch jobs is there only while there are some, and may be killed."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.served import Served, served

from rayflow.app.family import BATCH_MODULE

ROWS = 150
CONFIG = """
name: team
agents: [{name: facts}]
batch: {concurrency: 4, idle_s: 1.0}
"""


def batch_processes(server: Served) -> list[psutil.Process]:
    found = []
    for process in server.family():
        with suppress(psutil.Error):  # it has just ended
            if BATCH_MODULE in " ".join(process.cmdline()):
                found.append(process)
    return found


def completed(server: Served, job_id: str) -> int:
    _, _, raw = server.request("GET", f"/batches/{job_id}")
    job = json.loads(raw)
    assert job["status"] not in ("failed", "paused", "cancelled"), job
    return int(job["counts"]["completed"])


@pytest.mark.timeout(240)
def test_a_job_survives_kills_of_the_process_that_runs_it(tmp_path: Path) -> None:
    (tmp_path / "rayflow.yaml").write_text(CONFIG)
    rows = {"items": [{"id": f"q{n}", "prompt": f"Question {n}"} for n in range(ROWS)]}
    with served(cwd=tmp_path) as server:
        assert not batch_processes(server)
        _, _, raw = server.request("POST", "/batches", {"input": rows, "rows_per_s": 50})
        job_id = json.loads(raw)["job_id"]
        for least in (10, 50, 90):
            while completed(server, job_id) < least:
                time.sleep(0.05)
            while not (running := batch_processes(server)):
                time.sleep(0.05)
            [process] = running
            process.kill()
        while completed(server, job_id) < ROWS:
            time.sleep(0.05)
        while batch_processes(server):
            time.sleep(0.05)
        _, _, raw = server.request("GET", f"/batches/{job_id}/results")
        found = [json.loads(line) for line in raw.splitlines()]
        assert [row["id"] for row in found] == [f"q{n}" for n in range(ROWS)]
        assert all(row["status"] == "ok" for row in found)
        assert server.stop() == 0
