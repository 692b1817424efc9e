"""What has happened is seen by whoever asks next, while the system runs and before anything of it is Parquet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa

from rayflow.analytics.database import open_log
from rayflow.analytics.files import SEGMENTS_GLOB
from rayflow.analytics.named import named_queries
from rayflow.app.orchestrator import Orchestrator


def workflow(state: Path) -> dict[str, Any]:
    return {
        "name": "team",
        "agents": [{"name": "general", "system_prompt": "The office opens at nine."}],
        "storage": {"state": str(state)},
        "processing": {"drain_s": 1.0},
    }


async def until_ended(events: Path, runs: int) -> pa.Table:
    """The runs, as soon as so many have ended in the log."""
    while True:
        if events.is_dir():
            with open_log(events) as log:
                ended = log.query("FROM runs WHERE ended IS NOT NULL ORDER BY started")
                if ended.num_rows >= runs:
                    return ended
        await asyncio.sleep(0.02)


async def test_a_run_that_just_ended_is_in_the_answer(tmp_path: Path) -> None:
    events = tmp_path / "state" / "events"
    async with Orchestrator(workflow(tmp_path / "state"), in_process=True) as team:
        for n in (1, 2):
            answer = await team.process_chat("When does the office open?", session_id="s")
            ended = await until_ended(events, n)
            assert ended["run_id"][n - 1].as_py() == answer.metadata["run_id"]
            assert ended["status"].to_pylist() == ["ok"] * n
        assert not list(events.glob(SEGMENTS_GLOB)), "it comes from the open segment"
        query = named_queries()["session_story"]
        with open_log(events) as log:
            story = log.query(query.sql, query.bind({"session_id": "s"}))["kind"].to_pylist()
    assert story.count("run.finished") == 2
    assert story.index("run.started") < story.index("agent.finished") < story.index("run.finished")
