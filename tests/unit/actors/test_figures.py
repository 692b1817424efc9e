"""What routers count is what happened, and a scrape hears of all of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from actor_doubles import config, team

from rayflow.actors.figures import Spread
from rayflow.app.figures import figures
from rayflow.app.jobs.records import Counts, JobRecord, JobStore, new_job_id
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.errors import ModelError, ModelTimeout, Unavailable
from rayflow.messages import Alert, Alerts, GetAlerts, GetLogStats, GetStats, LogStats, Sample, Stats
from rayflow.messages.stats import FIGURES

RETRYING = [{"name": "m", "price_prompt": 1_000_000.0, "retries": {"strategy": "simple", "max_attempts": 2}}]


def told(samples: list[Sample]) -> dict[str, float]:
    return {" ".join([sample.name.removeprefix("rayflow_"), *sample.labels]): sample.value for sample in samples}


async def test_a_router_counts_what_its_runs_met() -> None:
    async with team(config({"name": "a", "model": "m", "fallback_agent": "b"}, {"name": "b"}, models=RETRYING)) as t:
        await t.run(agent="a")
        t.models["a"].errors = [ModelError("busy", upstream_status=503)]
        await t.run(agent="a", session="sess_2")
        t.models["a"].errors = [ModelError("busy", upstream_status=503)] * 2
        await t.run(agent="a", session="sess_3")
        t.models["b"].errors = [ModelTimeout("slow")] * 9
        with pytest.raises(ModelTimeout):
            await t.run(agent="b", session="sess_4")
        stats: Stats = await t.fabric.ask("router/0", GetStats(), 5.0)
    seen = told(stats.samples)
    assert {sample.name for sample in stats.samples} <= FIGURES.keys()
    assert seen["model_calls m ok"] == 2
    assert seen["model_calls m error"] == 3
    assert seen["model_tokens m prompt"] == 6
    assert seen["model_cost_usd m"] == 6
    assert seen["parts a ok"] == 2
    assert (seen["parts b ok"], seen["parts b error"]) == (1, 1)
    assert seen["selections a agent/a/0"] == 5
    assert seen["fallbacks a"] == 1
    assert seen["retries a"] == 2
    assert seen["run_errors model-timeout"] == 1
    assert (seen["pool_replicas a"], seen["pool_in_flight a"], seen["pool_waiting a"]) == (1, 0, 0)
    assert seen["breaker_state m"] == 0
    stages = {
        sample.labels[0]: sum(sample.counts)
        for sample in stats.samples
        if sample.name.endswith("stage_duration_seconds")
    }
    assert (stages["answer"], stages["commit_answer"]) == (3, 3)
    (waits,) = [
        sample for sample in stats.samples if (sample.name, sample.labels) == ("rayflow_queue_wait_seconds", ["a"])
    ]
    assert sum(waits.counts) == 5


async def test_a_call_that_finds_no_place_is_counted_by_its_reason() -> None:
    full = config({"name": "a", "replicas": {"max_in_flight": 1}}, processing={"max_queue": 0})
    async with team(full) as t:
        t.models["a"].released.clear()
        first = t.start(agent="a")
        await t.models["a"].busy()
        with pytest.raises(Exception, match="busy"):
            await t.run(agent="a", session="sess_2")
        t.models["a"].released.set()
        await first
        stats: Stats = await t.fabric.ask("router/0", GetStats(), 5.0)
    assert told(stats.samples)["rejections a full"] == 1


def test_a_histogram_has_each_value_in_one_bucket() -> None:
    spread = Spread((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 2.0):
        spread.observe(value)
    assert (spread.counts, spread.total) == ([2, 1, 1], pytest.approx(2.65))


async def test_a_scrape_asks_routers_the_event_log_and_the_jobs(tmp_path: Path) -> None:
    fabric = InProcessFabric()

    def gone(_: GetStats) -> Stats:
        raise Unavailable("it is being replaced")

    fabric.bind(
        "router/0", {GetStats: lambda _: Stats([Sample("rayflow_retries", ["a"], 2), Sample("rayflow_of_tomorrow")])}
    )
    fabric.bind("router/1", {GetStats: gone})
    alerts = Alerts(
        [
            Alert("error_rate", "above", 0.05, 60.0, True),
            Alert("error_rate", "above", 0.5, 60.0, False),
            Alert("throughput", "below", 1, 60.0, False),
        ]
    )
    fabric.bind(
        "eventlog/0", {GetLogStats: lambda _: LogStats(events=7, bytes=70, dropped=3), GetAlerts: lambda _: alerts}
    )
    workflow = config(storage={"state": str(tmp_path)})
    record = JobRecord(
        id=new_job_id(), kind="native", tenant="", status="in_progress", created_s=1, counts=Counts(10, 6, 1)
    )
    JobStore(tmp_path).create(record, b"", ".jsonl")
    client: Any = SimpleNamespace(fabric=fabric, config=workflow)
    assert told(await figures(client)) == {
        "retries router/0 a": 2, "events_written": 7, "events_dropped": 3, "event_log_bytes": 70,
        "event_batches_refused": 0,
        "alerts_active error_rate": 1, "alerts_active throughput": 0, "batch_jobs in_progress": 1,
        "batch_rows completed": 6, "batch_rows failed": 1, "batch_rows left": 3,
    }  # fmt: skip
