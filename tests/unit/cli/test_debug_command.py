"""`rayflow debug` tells the story of a run, and of none that there is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rayflow.analytics.log import SegmentLog
from rayflow.cli import debug
from rayflow.errors import NotFound
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch
from rayflow.tracing import agent_span, run_span

app = typer.Typer()
debug.register(app)
BEGUN_US = 1_763_726_400_000_000


@app.callback()
def root_command() -> None:
    """With a callback, Typer keeps `debug` a command of its own."""


def event(kind: str, seq: int, after_ms: float, **fields: Any) -> Event:
    ts_us = BEGUN_US + round(after_ms * 1000)
    return Event(kind, ts_us, "router/0", run_id="run_1", seq=seq, workflow="team", session_id="sess_1", **fields)


EVENTS = [
    event("run.started", 1, 0, channel="chat", data={"messages": 1}),
    event(
        "run.routed", 2, 10, strategy="keyword", confidence=0.9,
        data={"agents": ["billing"], "reason": "rule 1", "scores": {"billing": 0.9, "tech": 0.1}},
    ),
    event("agent.started", 3, 15, agent="billing", replica="agent/billing/0", queue_ms=5.0, attempt=1),
    event(
        "model.finished", 4, 40, agent="billing", replica="agent/billing/0", provider="openai", model="m", attempt=1,
        status="error", error="model-timeout", error_message="it took too long", duration_ms=25.0,
    ),
    event("agent.retried", 5, 40, agent="billing", error="model-timeout", attempt=2, data={"delay_s": 0.01}),
    event("agent.started", 6, 50, agent="billing", replica="agent/billing/1", queue_ms=0.0, attempt=2),
    event(
        "agent.finished", 7, 90, agent="billing", replica="agent/billing/1", provider="openai", model="m", attempt=2,
        status="ok", duration_ms=40.0, prompt_tokens=12, completion_tokens=5, cost_usd=0.25,
    ),
    event(
        "run.finished", 8, 100, status="ok", duration_ms=100.0, prompt_tokens=12, completion_tokens=5, cost_usd=0.25,
        data={"agents": ["billing"]},
    ),
]  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    log = SegmentLog(tmp_path / "events", "eventlog/0", 1 << 26, 300.0)
    log.append([EventBatch("o", 0, len(EVENTS), encode_lines(EVENTS))])
    log.close()
    return tmp_path


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["debug", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_story_has_the_decision_the_waterfall_and_the_events(state: Path) -> None:
    lines = invoke("chatcmpl-run_1", "--state", str(state)).splitlines()
    assert lines[0] == "run run_1: ok after 100.0 ms"
    assert "routing: keyword chose billing, 0.90 sure" in lines
    assert "  * billing                  0.9000" in lines
    assert "    tech                     0.1000" in lines
    first = lines.index(next(line for line in lines if line.startswith("steps")))
    steps = lines[first + 1 : first + 5]
    assert [step.split("━")[0].rstrip() for step in steps] == [
        "invoke_workflow team", "  invoke_agent billing", "    chat m", "    chat m",
    ]  # fmt: skip
    assert "! it took too long" in steps[2]
    assert "agent/billing/1, attempt 2, 12 + 5 tokens" in steps[3]
    starts = [step.index("━") for step in steps]
    assert starts == sorted(starts)
    assert steps[0].count("━") > steps[1].count("━") > steps[3].count("━") > steps[2].count("━")
    assert any("agent.retried" in line and "delay_s=0.01" in line for line in lines)


def test_the_same_for_programs(state: Path) -> None:
    found = json.loads(invoke("--state", str(state), "--format", "json"))
    assert (found["run_id"], found["status"], found["duration_ms"]) == ("run_1", "ok", 100.0)
    assert [event["kind"] for event in found["events"]] == [event.kind for event in EVENTS]
    assert [(step["name"], step["depth"], step["at_ms"], step["duration_ms"]) for step in found["steps"]] == [
        ("invoke_workflow team", 0, 0.0, 100.0),
        ("invoke_agent billing", 1, 10.0, 80.0),
        ("chat m", 2, 15.0, 25.0),
        ("chat m", 2, 50.0, 40.0),
    ]
    assert found["steps"][1]["parent"] == run_span("run_1", 0)
    assert {step["parent"] for step in found["steps"][2:]} == {agent_span("run_1", 0, "billing")}


def test_of_a_run_that_is_under_way_it_tells_what_there_is(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "events", "eventlog/0", 1 << 26, 300.0)
    log.append([EventBatch("o", 0, 4, encode_lines(EVENTS[:4]))])
    text = invoke("run_1", "--events", str(tmp_path / "events"))
    with pytest.raises(NotFound, match="no run has ended"):
        invoke("--state", str(tmp_path))
    log.close()
    assert text.startswith("run run_1: unfinished\n")
    assert "chat m" in text


def test_a_run_that_the_log_does_not_know_is_named(state: Path) -> None:
    with pytest.raises(NotFound, match="run_9"):
        invoke("run_9", "--state", str(state))
