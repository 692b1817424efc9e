"""kill -9 of the process that runs batch jobs for HTTP clients: the next one goes on, and no row is there twice."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.served import Served, served

ROWS = 120
CONFIG = """
name: team
agents: [{name: facts}]
batch: {concurrency: 4, idle_s: 0.5}
"""


def ask(server: Served, method: str, path: str, body: object = None) -> dict[str, Any]:
    status, _, raw = server.request(method, path, body)
    assert status in (200, 202), raw
    found: dict[str, Any] = json.loads(raw)
    return found


def until(server: Served, job_id: str, completed: int) -> dict[str, Any]:
    while (job := ask(server, "GET", f"/batches/{job_id}"))["counts"]["completed"] < completed:
        assert job["status"] not in ("failed", "cancelled", "paused"), job
        time.sleep(0.05)
    return job


@pytest.mark.timeout(180)
def test_a_job_survives_kills_of_its_server(tmp_path: Path) -> None:
    (tmp_path / "rayflow.yaml").write_text(CONFIG)
    rows = {"items": [{"id": f"q{n}", "prompt": f"Question {n}"} for n in range(ROWS)]}
    with served("--in-process", cwd=tmp_path) as server:
        job_id = ask(server, "POST", "/batches", {"input": rows, "rows_per_s": 30})["job_id"]
        until(server, job_id, 10)
    for least in (40, 70):
        with served("--in-process", cwd=tmp_path) as server:
            until(server, job_id, least)
    with served("--in-process", cwd=tmp_path) as server:
        until(server, job_id, ROWS)
        while (job := ask(server, "GET", f"/batches/{job_id}"))["status"] != "completed":
            time.sleep(0.05)
        assert job["counts"] == {"total": ROWS, "completed": ROWS, "failed": 0}
        _, _, raw = server.request("GET", f"/batches/{job_id}/results")
        found = [json.loads(line) for line in raw.splitlines()]
        assert [row["id"] for row in found] == [f"q{n}" for n in range(ROWS)]
        assert [row["ordinal"] for row in found] == list(range(1, ROWS + 1))
        assert server.stop() == 0
