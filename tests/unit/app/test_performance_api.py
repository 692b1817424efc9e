"""A program asks how its own workflow does, times stretches of itself, and has it tuned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rayflow.analytics.database import open_log
from rayflow.app import performance
from rayflow.app.orchestrator import Orchestrator
from rayflow.app.performance import Performance
from rayflow.errors import Conflict, ExecutionError, ValidationError

PATIENCE_S = 60.0


def workflow(folder: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": "team",
        "agents": [{"name": "general", "model": "priced"}, {"name": "billing"}],
        "models": [{"name": "priced", "provider": "offline", "price_prompt": 1e6, "price_completion": 1e6}],
        "routing": {"rules": [{"keywords": ["refund"], "target_agent": "billing"}], "default_agent": "general"},
        "storage": {"state": str(folder / "state")},
        "processing": {"drain_s": 1.0},
        **sections,
    }


@pytest.fixture
async def team(tmp_path: Path) -> AsyncIterator[Orchestrator]:
    async with Orchestrator(workflow(tmp_path), in_process=True) as made:
        yield made


async def until_logged(team: Orchestrator, runs: int) -> dict[str, float | None]:
    """Routers hand their events to the log a moment later."""
    async with asyncio.timeout(PATIENCE_S):
        while (metrics := await team.get_performance_metrics("10m"))["runs"] != runs:
            await asyncio.sleep(0.05)
    return metrics


async def test_metrics_are_those_of_the_runs_so_far(team: Orchestrator) -> None:
    assert (await team.get_performance_metrics())["avg_response_time"] is None
    for text in ("Hello there.", "Where is my refund?"):
        await team.process_chat(text, user_id="ada")
    metrics = await until_logged(team, 2)
    assert (metrics["error_rate"], metrics["conversations"]) == (0, 2)
    assert metrics["avg_response_time"] == metrics["response_time"] and (metrics["response_time"] or 0) > 0
    assert (metrics["throughput"] or 0) == pytest.approx(2 / 600)


async def test_a_period_that_is_none_is_refused(team: Orchestrator) -> None:
    with pytest.raises(ValidationError, match="since"):
        await team.get_performance_metrics("soon")


async def test_executions_have_their_cost_and_are_warned_of(
    team: Orchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    first = await team.process_chat("Hello there.")
    second = await team.process_chat("Where is my refund?")
    await until_logged(team, 2)
    with caplog.at_level(logging.WARNING, "rayflow.app.performance"):
        latest, earliest = await team.get_executions()
    assert [latest.run_id, earliest.run_id] == [second.metadata["run_id"], first.metadata["run_id"]]
    assert (latest.agents, latest.status, latest.workflow) == (["billing"], "ok", "team")
    tokens = first.metrics["total_tokens"]
    assert earliest.metrics["total_cost"] == pytest.approx(tokens) and latest.metrics["total_cost"] is None
    assert first.metadata["run_id"] in caplog.text and second.metadata["run_id"] not in caplog.text


async def test_executions_of_one_agent(team: Orchestrator) -> None:
    for text in ("Hello there.", "Where is my refund?", "And my other refund?"):
        await team.process_chat(text)
    await until_logged(team, 3)
    assert [each.agents for each in await team.get_executions("billing", limit=1)] == [["billing"]]
    assert len(await team.get_executions("billing")) == 2
    assert await team.get_executions("nobody") == []


async def test_a_tracked_stretch_stands_among_the_workflows(team: Orchestrator) -> None:
    async with team.track_workflow("nightly") as tracked:
        tracked.facts["rows"] = 12
        assert tracked.duration_ms is None
    assert tracked.duration_ms is not None
    with pytest.raises(ExecutionError):
        async with team.track_workflow("nightly"):
            raise ExecutionError("no")
    await team.get_performance_metrics()
    with open_log(Path(team.config.storage.state) / "events") as log:
        sql = "SELECT status, error, data ->> '$.rows' AS rows FROM events WHERE kind = 'workflow.tracked' ORDER BY ts"
        assert [tuple(row.values()) for row in log.query(sql).to_pylist()] == [
            ("ok", None, "12"),
            ("error", "execution-failed", None),
        ]


async def test_without_a_log_nothing_can_be_asked(tmp_path: Path) -> None:
    async with Orchestrator(workflow(tmp_path, monitoring={"event_log": False}), in_process=True) as team:
        with pytest.raises(Conflict, match=r"monitoring\.event_log"):
            await team.get_performance_metrics()
        with pytest.raises(Conflict, match=r"monitoring\.event_log"):
            async with team.track_workflow("nightly"):
                pass


@pytest.mark.parametrize(
    ("measured", "done"),
    [
        ({"avg_response_time": 6000.0, "memory_usage": 0.5}, ["scale_processing_capacity(1.5)"]),
        ({"avg_response_time": 5000.0, "memory_usage": 0.9}, ["optimize_context_management()"]),
        (
            {"avg_response_time": 6000.0, "memory_usage": 0.9},
            ["scale_processing_capacity(1.5)", "optimize_context_management()"],
        ),
        ({"avg_response_time": None, "memory_usage": None}, []),
    ],
)
async def test_tuning_does_what_the_measures_ask_for(
    team: Orchestrator, monkeypatch: pytest.MonkeyPatch, measured: Mapping[str, float | None], done: list[str]
) -> None:
    async def metrics(self: Performance, since: str) -> Mapping[str, float | None]:
        assert since == performance.TUNED_OVER
        return measured

    monkeypatch.setattr(Performance, "metrics", metrics)
    assert await team.tune() == done
    sizes = await team.scale_processing_capacity(1.0)
    assert sizes["general"] == (2 if "scale_processing_capacity(1.5)" in done else 1)
    cached = 500 if "optimize_context_management()" in done else 1000
    assert team._running.config.context.cached_sessions == cached
    assert (await team.process_chat("Hello again.")).content


async def test_context_is_not_shrunk_below_a_few_sessions(tmp_path: Path) -> None:
    async with Orchestrator(workflow(tmp_path, context={"cached_sessions": 8}), in_process=True) as team:
        assert not await team.optimize_context_management()
