from __future__ import annotations

import re
import time
from importlib.resources import files
from pathlib import Path

import pytest
from log_samples import SOURCE

from rayflow.analytics.database import open_log
from rayflow.analytics.named import named_queries, named_query
from rayflow.analytics.segments import SegmentWriter
from rayflow.errors import NotFound, ValidationError
from rayflow.events import Event

QUERIES_DOC = (Path(__file__).parents[3] / "docs" / "queries.md").read_text()
MINUTE_US = 60_000_000
START_US = (time.time_ns() // 1000 // MINUTE_US - 30) * MINUTE_US
"""The beginning of a minute half an hour ago: named queries look back from now."""


def run(
    number: int,
    minute: int,
    agent: str,
    duration_ms: float,
    channel: str = "chat",
    status: str = "ok",
    days_ago: int = 0,
) -> list[Event]:
    """All events of one run that began with the given minute."""
    begun = START_US + (minute - days_ago * 24 * 60) * MINUTE_US
    ended = begun + round(duration_ms * 1000)
    run_id, session, error = f"run_{number}", f"sess_{number % 2}", "model-timeout" if status == "error" else ""
    strategy, sure = ("keyword", 0.9) if agent == "billing" else ("default", 0.5)
    times = {"duration_ms": duration_ms, "ttft_ms": duration_ms / 10}
    turns = {"user": ""} if error else {"user": "", "assistant": agent}
    return [
        Event("run.started", begun, run_id=run_id, workflow="support", session_id=session, channel=channel),
        Event("run.routed", begun, run_id=run_id, strategy=strategy, confidence=sure, data={"agents": [agent]}),
        Event("agent.finished", ended, run_id=run_id, agent=agent, status=status, **times),
        *(
            Event(
                "turn.committed", ended, run_id=run_id, session_id=session, agent=by, data={"role": role, "chars": 10}
            )
            for role, by in turns.items()
        ),
        Event(
            "run.finished",
            ended,
            run_id=run_id,
            status=status,
            error=error,
            prompt_tokens=20,
            completion_tokens=6,
            **times,
        ),
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs of the last hour (one failed, one cancelled, one never finished) and one of last month."""
    root = tmp_path_factory.mktemp("state") / "events"
    writer = SegmentWriter(root, SOURCE)
    writer.write(run(0, 0, "billing", 100.0) + run(1, 0, "billing", 300.0))
    writer.write(run(2, 1, "tech", 1000.0, status="error") + run(3, 1, "tech", 2000.0, channel="batch"))
    writer.write(run(4, 1, "tech", 50.0, status="cancelled"))
    writer.write(run(5, 3, "billing", 10.0)[:1])
    writer.write(run(6, 0, "billing", 9999.0, days_ago=30))
    return root


def ask(root: Path, name: str, **given: str) -> list[dict[str, object]]:
    query = named_query(name)
    with open_log(root) as log:
        answer = log.query(query.sql, query.bind(given))
    for field in answer.schema.names:
        if field in ("minute", "started", "first_turn", "last_turn"):
            minutes = [(us - START_US) / MINUTE_US for us in answer[field].cast("int64").to_pylist()]
            answer = answer.set_column(answer.schema.names.index(field), field, [minutes])
    rows: list[dict[str, object]] = answer.to_pylist()
    return rows


def test_latency_by_agent(root: Path) -> None:
    assert ask(root, "latency_by_agent") == [
        {
            "agent": "tech",
            "requests": 3,
            "errors": 1,
            "p50_ms": 1000.0,
            "p95_ms": 1900.0,
            "ttft_p50_ms": 100.0,
            "ttft_p95_ms": 190.0,
        },
        {
            "agent": "billing",
            "requests": 2,
            "errors": 0,
            "p50_ms": 200.0,
            "p95_ms": 290.0,
            "ttft_p50_ms": 20.0,
            "ttft_p95_ms": 29.0,
        },
    ]


def test_tokens_by_workflow(root: Path) -> None:
    assert ask(root, "tokens_by_workflow") == [
        {"workflow": "support", "runs": 6, "prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130}
    ]


def test_errors_per_minute(root: Path) -> None:
    assert ask(root, "errors_per_minute") == [
        {"minute": 0.0, "runs": 2, "errors": 0, "error_rate": 0.0},
        {"minute": 1.0, "runs": 3, "errors": 1, "error_rate": 0.3333},
    ]


def test_throughput_per_minute(root: Path) -> None:
    assert ask(root, "throughput_per_minute") == [
        {"minute": 0.0, "runs": 2, "runs_per_s": 0.033, "completion_tokens_per_s": 0.2},
        {"minute": 1.0, "runs": 3, "runs_per_s": 0.05, "completion_tokens_per_s": 0.3},
    ]


def test_slowest_runs(root: Path) -> None:
    assert [row["run_id"] for row in ask(root, "slowest_runs")] == ["run_3", "run_2", "run_1", "run_0", "run_4"]
    assert ask(root, "slowest_runs", limit="2") == [
        {
            "run_id": "run_3",
            "workflow": "support",
            "started": 1.0,
            "duration_ms": 2000.0,
            "ttft_ms": 200.0,
            "status": "ok",
            "error": None,
            "agents": ["tech"],
        },
        {
            "run_id": "run_2",
            "workflow": "support",
            "started": 1.0,
            "duration_ms": 1000.0,
            "ttft_ms": 100.0,
            "status": "error",
            "error": "model-timeout",
            "agents": ["tech"],
        },
    ]


def test_slowest_runs_of_another_span_of_time(root: Path) -> None:
    assert ask(root, "slowest_runs", since="60 days", limit="1")[0]["run_id"] == "run_6"


def test_runs_by_channel(root: Path) -> None:
    assert ask(root, "runs_by_channel") == [
        {"channel": "chat", "runs": 5, "ok": 2, "errors": 1, "cancelled": 1, "unfinished": 1, "p50_ms": 200.0},
        {"channel": "batch", "runs": 1, "ok": 1, "errors": 0, "cancelled": 0, "unfinished": 0, "p50_ms": 2000.0},
    ]


def test_routing_summary(root: Path) -> None:
    assert ask(root, "routing_summary") == [
        {
            "strategy": "default",
            "agents": ["tech"],
            "runs": 3,
            "mean_confidence": 0.5,
            "min_confidence": 0.5,
            "errors": 1,
        },
        {
            "strategy": "keyword",
            "agents": ["billing"],
            "runs": 2,
            "mean_confidence": 0.9,
            "min_confidence": 0.9,
            "errors": 0,
        },
    ]


def test_sessions_most_active(root: Path) -> None:
    first, second = ask(root, "sessions_most_active")
    assert first == {
        "session_id": "sess_0",
        "turns": 5,
        "user_turns": 3,
        "runs": 3,
        "chars": 50,
        "first_turn": pytest.approx(0.1 / 60),
        "last_turn": pytest.approx(1 + 1 / 60),
    }
    assert (second["session_id"], second["turns"]) == ("sess_1", 4)
    assert ask(root, "sessions_most_active", limit="1") == [first]


def test_every_named_query_has_a_test() -> None:
    assert {f"test_{name}" for name in named_queries()} <= globals().keys()


def test_every_query_file_is_named_after_its_query() -> None:
    folder = files("rayflow.analytics") / "sql" / "queries"
    assert sorted(file.name for file in folder.iterdir()) == [f"{name}.sql" for name in named_queries()]


def test_the_documented_queries_are_those_of_the_code() -> None:
    table = QUERIES_DOC.split("## Named queries\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", table, re.MULTILINE)
    assert documented == [
        (query.name, ", ".join(f"`{name}={default}`" for name, default in query.params.items()), query.description)
        for query in named_queries().values()
    ]


def test_an_unknown_name_is_answered_with_the_nearest_and_all_names() -> None:
    with pytest.raises(NotFound) as unknown:
        named_query("slow_runs")
    assert "did you mean 'slowest_runs'?" in unknown.value.message
    assert all(name in unknown.value.message for name in named_queries())


def test_an_unknown_parameter_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match=r"did you mean 'limit'\?\); it has: since, limit"):
        named_query("slowest_runs").bind({"limits": "3"})


def test_a_parameter_that_does_not_fit_is_refused(root: Path) -> None:
    with pytest.raises(ValidationError, match="many"):
        ask(root, "slowest_runs", limit="many")
