"""The process that exports to OpenTelemetry."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.otlp import collecting

from rayflow.analytics.log import SegmentLog
from rayflow.app import telemetry
from rayflow.app.system import InProcessSystem
from rayflow.chat import Message
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import ConfigurationError
from rayflow.events import Event, encode_lines
from rayflow.ids import new_run_id
from rayflow.messages import EventBatch, RunRequest


def workflow(state: Path, **otel: object) -> WorkflowConfig:
    return WorkflowConfig.model_validate(
        {
            "name": "team",
            "agents": [{"name": "a"}],
            "storage": {"state": str(state)},
            "monitoring": {"otel": {"enabled": True, **otel}},
        }
    )


def test_it_sends_what_is_in_the_log_until_it_is_asked_to_end(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "events", "eventlog/0", 1 << 26, 300.0)
    ended = Event("run.finished", 2_000_000, run_id="run_1", trace_id="ab" * 16, workflow="team", status="ok", seq=1)
    log.append([EventBatch("o", 0, 1, encode_lines([ended]))])
    with collecting() as stub:
        process = subprocess.Popen(
            [sys.executable, "-m", telemetry.MODULE, str(os.getpid())], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(dump(workflow(tmp_path, endpoint=stub.url)))
        process.stdin.close()
        process.stdin = None
        assert stub.arrived.wait(60)
        assert not stub.metrics
        log.append([EventBatch("o", 1, 1, encode_lines([ended]))])
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
        assert [span.name for span in stub.spans] == ["invoke_workflow team"] * 2
        assert "gen_ai.workflow.duration" in stub.last_metrics
    log.close()
    assert (tmp_path / telemetry.BOOK).exists()


async def test_runs_of_a_system_arrive_as_traces_and_the_last_one_before_it_is_gone(tmp_path: Path) -> None:
    with collecting() as stub:
        config = workflow(tmp_path, endpoint=stub.url, metrics_interval_s=600.0)
        async with telemetry.exporting(config), InProcessSystem(config) as system:
            client = await system.client("test")
            for number in (1, 2):
                await client.run(RunRequest(new_run_id(), f"sess_{number}", [Message("user", "hello")]))
                if number == 1:
                    assert await asyncio.to_thread(stub.arrived.wait, 60)
        by_trace: dict[bytes, list[str]] = {}
        for span in stub.spans:
            by_trace.setdefault(span.trace_id, []).append(span.name)
        assert [sorted(names) for names in by_trace.values()] == [
            ["chat offline", "invoke_agent a", "invoke_workflow team"]
        ] * 2
        (duration,) = stub.last_metrics["gen_ai.workflow.duration"].histogram.data_points
        assert duration.count == 2


def test_a_configuration_that_needs_what_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"rayflow\[otel\]"):
        telemetry.check(workflow(tmp_path))
    telemetry.check(workflow(tmp_path, enabled=False))
