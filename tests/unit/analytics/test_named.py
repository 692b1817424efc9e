from __future__ import annotations

import re
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
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
            workflow="support",
            session_id=session,
            channel=channel,
            strategy=strategy,
            confidence=sure,
            status=status,
            error=error,
            prompt_tokens=20,
            completion_tokens=6,
            data={"agents": [agent]},
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


def at(minute: float) -> int:
    return START_US + round(minute * MINUTE_US)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half an hour in which everything happened that the other queries are about."""
    root = tmp_path_factory.mktemp("mixed") / "events"
    call: dict[str, Any] = {"agent": "tech", "provider": "openai", "model": "gpt", "session_id": "s", "tenant": "t1"}
    used = {"prompt_tokens": 100, "cached_tokens": 40, "completion_tokens": 20, "cost_usd": 0.002}
    pace = {"duration_ms": 1000.0, "ttft_ms": 100.0, "tokens_per_s": 25.0, "queue_ms": 5.0}
    about = {"workflow": "support", "session_id": "s", "tenant": "t1"}
    events = [
        Event("run.started", at(1), run_id="r1", seq=1, **about, content="Help!"),
        Event("run.routed", at(1), run_id="r1", seq=2, **about, strategy="team", data={"agents": ["tech", "billing"]}),
        Event("agent.started", at(1), run_id="r1", seq=3, agent="tech", queue_ms=5.0, priority="interactive"),
        Event("agent.started", at(1), run_id="r1", seq=4, agent="billing", queue_ms=15.0, priority="interactive"),
        Event("model.finished", at(1), run_id="r1", seq=5, **call, status="error", error="model-timeout", attempt=1),
        Event("agent.retried", at(1), run_id="r1", seq=6, agent="tech", error="model-timeout", attempt=2),
        Event(
            "agent.finished", at(1) + 1_000_000, run_id="r1", seq=7, **call, **used, **pace, status="ok",
            finish_reason="stop", attempt=2,
        ),
        Event("agent.fallback", at(1), run_id="r1", seq=8, agent="billing", error="peer-lost", data={"agent": "chief"}),
        Event(
            "agent.finished", at(1) + 800_000, run_id="r1", seq=9, agent="chief", model="own", provider="offline",
            tenant="t2", status="ok", duration_ms=400.0, prompt_tokens=10, completion_tokens=5, finish_reason="length",
            reasoning_tokens=3,
        ),
        Event("model.finished", at(1), run_id="r1", seq=10, model="gpt", status="ok", cost_usd=0.001, provider="openai",
              data={"purpose": "judge"}, prompt_tokens=50, completion_tokens=1),
        Event("run.finished", at(1) + 1_100_000, run_id="r1", seq=11, **about, status="ok", strategy="team",
              confidence=0.4, duration_ms=1100.0, data={"agents": ["tech", "chief"]}),
        Event("feedback.given", at(2), run_id="r1", **about, agent="tech", score=1.0, data={"thumb": "up"}),
        Event("feedback.given", at(3), run_id="r1", **about, agent="tech", score=-0.5, data={"comment": "slow"}),
        Event("run.routed", at(4), run_id="r2", strategy="delegation",
              data={"agents": ["tech"], "reason": "keyword; delegated billing -> tech"}),
        Event("run.finished", at(4), run_id="r2", **about, status="error", error="model-timeout", error_message="late",
              strategy="delegation", confidence=0.9, duration_ms=10.0),
        Event("run.finished", at(5), run_id="r3", **about, status="ok", data={"cached": True}, duration_ms=1.0),
        Event("pool.scaled", at(6), agent="tech", strategy="queue", data={"from": 1, "to": 3, "reason": "a queue"}),
        Event("actor.lost", at(7), "router/0", epoch=1, error_message="killed"),
        Event("actor.restarted", at(8), "router/0", epoch=2, data={"attempt": 1, "delay_s": 0.5}),
        Event("replica.ejected", at(9), "router/0", agent="tech", replica="agent/tech/1",
              data={"reason": "errors", "out_s": 30.0}),
        Event("breaker.opened", at(10), model="gpt", error="model-timeout", data={"failures": 5, "open_s": 10.0}),
        Event("breaker.closed", at(11), model="gpt", data={"after_s": 60.0}),
        Event("batch.started", at(12), job_id="job", data={"input": "in.jsonl", "items": 2}),
        Event("run.finished", at(13), run_id="r4", job_id="job", status="ok", workflow="batch", prompt_tokens=7),
        Event("batch.finished", at(14), job_id="job", status="ok", data={"ok": 2, "failed": 0}),
    ]  # fmt: skip
    SegmentWriter(root, SOURCE).write(events)
    return root


def ask(root: Path, name: str, **given: str) -> list[dict[str, object]]:
    query = named_query(name, named_queries())
    with open_log(root) as log:
        answer = log.query(query.sql, query.bind(given))
    for field in answer.schema.names:
        if pa.types.is_timestamp(answer.schema.field(field).type):
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
        {"workflow": "support", "runs": 5, "prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130}
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


def test_cost_by_tenant(mixed: Path) -> None:
    assert ask(mixed, "cost_by_tenant") == [
        {"tenant": "t1", "calls": 2, "prompt_tokens": 100, "completion_tokens": 20, "cost_usd": 0.002, "unpriced": 0},
        {"tenant": None, "calls": 1, "prompt_tokens": 50, "completion_tokens": 1, "cost_usd": 0.001, "unpriced": 0},
        {"tenant": "t2", "calls": 1, "prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.0, "unpriced": 1},
    ]


def test_cost_by_model(mixed: Path) -> None:
    rows = ask(mixed, "cost_by_model")
    assert [
        (row["model"], row["purpose"], row["calls"], row["cost_usd"], row["usd_per_1000_calls"]) for row in rows
    ] == [
        ("gpt", "answer", 2, 0.002, 2.0),
        ("gpt", "judge", 1, 0.001, 1.0),
        ("own", "answer", 1, 0.0, None),
    ]
    assert rows[0]["cached_tokens"] == 40


def test_model_usage(mixed: Path) -> None:
    gpt, own = ask(mixed, "model_usage")
    assert (gpt["model"], gpt["calls"], gpt["errors"], gpt["error_rate"], gpt["p50_ms"]) == (
        "gpt",
        3,
        1,
        0.3333,
        1000.0,
    )
    assert (own["model"], own["cut_off"], own["reasoning_tokens"], own["completion_tokens"]) == ("own", 1, 3, 5)


def test_tokens_per_second(mixed: Path) -> None:
    assert ask(mixed, "tokens_per_second")[0] == {
        "model": "gpt",
        "calls": 2,
        "p50_tokens_per_s": 25.0,
        "p05_tokens_per_s": 25.0,
        "ttft_p50_ms": 100.0,
        "ttft_p95_ms": 100.0,
    }


def test_error_budget(mixed: Path) -> None:
    assert ask(mixed, "error_budget", objective="0.5") == [
        {"workflow": "support", "runs": 3, "errors": 1, "success_rate": 0.66667, "allowed": 1.5, "used": 0.667},
        {"workflow": "batch", "runs": 1, "errors": 0, "success_rate": 1.0, "allowed": 0.5, "used": 0.0},
    ]


def test_error_budget_of_an_objective_without_errors(mixed: Path) -> None:
    assert [row["used"] for row in ask(mixed, "error_budget", objective="1")] == [None, None]


def test_slowest_steps(mixed: Path) -> None:
    first, second = ask(mixed, "slowest_steps")
    assert (first["agent"], first["duration_ms"], first["queue_ms"], first["attempt"]) == ("tech", 1000.0, 5.0, 2)
    assert (second["agent"], second["completion_tokens"]) == ("chief", 5)
    assert len(ask(mixed, "slowest_steps", limit="1")) == 1


def test_routing_quality(mixed: Path) -> None:
    delegation, team = ask(mixed, "routing_quality")
    assert team == {
        "strategy": "team",
        "runs": 1,
        "mean_confidence": 0.4,
        "in_doubt": 1.0,
        "error_rate": 0.0,
        "passed_on": 1.0,
        "scored": 1,
        "mean_score": 0.25,
    }
    assert (delegation["strategy"], delegation["error_rate"], delegation["passed_on"]) == ("delegation", 1.0, 0.0)


def test_cache_hits(mixed: Path) -> None:
    (support,) = [row for row in ask(mixed, "cache_hits") if row["workflow"] == "support"]
    assert (support["runs"], support["cached"], support["hit_rate"]) == (2, 1, 0.5)


def test_scaling_history(mixed: Path) -> None:
    assert ask(mixed, "scaling_history") == [
        {"ts": 6.0, "agent": "tech", "replicas_before": 1, "replicas": 3, "strategy": "queue", "reason": "a queue"}
    ]


def test_delegation_rate(mixed: Path) -> None:
    assert ask(mixed, "delegation_rate") == [
        {"agent": "billing", "runs": 2, "handed_on": 1, "delegation_rate": 0.5, "mostly_to": "tech", "fell_back": 1},
        {"agent": "tech", "runs": 1, "handed_on": 0, "delegation_rate": 0.0, "mostly_to": None, "fell_back": 0},
    ]


def test_parallel_vs_sequential(mixed: Path) -> None:
    """Parts of 1000 and 400 ms, both within the same second."""
    assert ask(mixed, "parallel_vs_sequential") == [
        {"parts": 2, "runs": 1, "parallel_ms": 1000.0, "sequential_ms": 1400.0, "speedup": 1.4}
    ]


def test_session_story(mixed: Path) -> None:
    story = ask(mixed, "session_story", session_id="s")
    assert [row["kind"] for row in story[:2]] == ["run.started", "run.routed"]
    assert story[0]["content"] == "Help!"
    assert (story[-1]["run_id"], story[-1]["after_ms"]) == ("r3", 60_000.0)
    assert ask(mixed, "session_story", session_id="nobody's") == []


def test_run_story(mixed: Path) -> None:
    story = ask(mixed, "run_story", run_id="r1")
    assert [row["seq"] for row in story if row["seq"]] == list(range(1, 12))
    assert [(row["kind"], row["at_ms"]) for row in story][-1] == ("run.finished", 1100.0)


def test_the_story_of_a_run_that_has_an_id_of_rayflow(tmp_path: Path) -> None:
    run_id = f"run_{START_US // 1000:012x}{'a' * 32}"
    events = [Event("run.started", START_US - 1000, run_id=run_id, seq=1), Event("run.finished", START_US + MINUTE_US)]
    SegmentWriter(tmp_path, SOURCE).write([*events, Event("run.finished", START_US + 1, run_id=run_id, seq=2)])
    assert [row["kind"] for row in ask(tmp_path, "run_story", run_id=run_id)] == ["run.started", "run.finished"]


def test_queue_wait(mixed: Path) -> None:
    assert [(row["agent"], row["parts"], row["mean_ms"], row["max_ms"]) for row in ask(mixed, "queue_wait")] == [
        ("billing", 1, 15.0, 15.0),
        ("tech", 1, 5.0, 5.0),
    ]


def test_retries_and_fallbacks(mixed: Path) -> None:
    nothing = {"retries": 0, "hedges": 0, "fallbacks": 0, "gave_up": 0, "runs": 1}
    assert ask(mixed, "retries_and_fallbacks") == [
        {"agent": "billing", "error": "peer-lost", **nothing, "fallbacks": 1},
        {"agent": "tech", "error": "model-timeout", **nothing, "retries": 1},
    ]


def test_batch_jobs(mixed: Path) -> None:
    (job,) = ask(mixed, "batch_jobs")
    assert (job["job_id"], job["status"], job["items"], job["ok"], job["runs"]) == ("job", "ok", 2, 2, 1)
    assert (job["started"], job["ended"], job["items_per_s"]) == (12.0, 14.0, round(1 / 120, 3))


def test_feedback_summary(mixed: Path) -> None:
    assert ask(mixed, "feedback_summary") == [
        {
            "agent": "tech",
            "given": 2,
            "thumbs_up": 1,
            "thumbs_down": 0,
            "mean_score": 0.25,
            "comments": 1,
            "last_comment": "slow",
        }
    ]


def test_errors_by_kind(mixed: Path) -> None:
    assert ask(mixed, "errors_by_kind") == [
        {
            "error": "model-timeout",
            "runs": 1,
            "share": 1.0,
            "first_seen": 4.0,
            "last_seen": 4.0,
            "last_message": "late",
            "last_run": "r2",
        }
    ]


def test_supervision_history(mixed: Path) -> None:
    rows = ask(mixed, "supervision_history")
    assert [(row["kind"], row["actor"], row["reason"], row["restarts"], row["wait_s"]) for row in rows] == [
        ("actor.lost", "router/0", "killed", None, None),
        ("actor.restarted", "router/0", None, 1, 0.5),
        ("replica.ejected", "agent/tech/1", "errors", None, 30.0),
    ]


def test_breaker_history(mixed: Path) -> None:
    opened, closed = ask(mixed, "breaker_history")
    assert (opened["model"], opened["failures"], opened["closed_to_calls_s"]) == ("gpt", 5, 10.0)
    assert (closed["kind"], closed["was_open_s"]) == ("breaker.closed", 60.0)


def test_every_named_query_has_a_test() -> None:
    assert {f"test_{name}" for name in named_queries()} <= globals().keys()


def test_every_query_file_is_named_after_its_query() -> None:
    folder = files("rayflow.analytics") / "sql" / "queries"
    assert sorted(file.name for file in folder.iterdir()) == [f"{name}.sql" for name in named_queries()]


def test_the_documented_queries_are_those_of_the_code() -> None:
    table = QUERIES_DOC.split("## Named queries\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", table, re.MULTILINE)
    assert documented == [
        (query.name, ", ".join(f"`{param}`" for param in query.signature), query.description)
        for query in named_queries().values()
    ]


def test_an_unknown_name_is_answered_with_the_nearest_and_all_names() -> None:
    with pytest.raises(NotFound) as unknown:
        named_query("slow_runs", named_queries())
    assert "did you mean 'slowest_runs'?" in unknown.value.message
    assert all(name in unknown.value.message for name in named_queries())


def test_an_unknown_parameter_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match=r"did you mean 'limit'\?\); it has: since, limit"):
        named_queries()["slowest_runs"].bind({"limits": "3"})


def test_a_parameter_that_does_not_fit_is_refused(root: Path) -> None:
    with pytest.raises(ValidationError, match="many"):
        ask(root, "slowest_runs", limit="many")


def test_a_parameter_without_a_default_must_be_given() -> None:
    with pytest.raises(ValidationError, match=r"needs the parameter 'run_id': run_id=VALUE"):
        named_queries()["run_story"].bind({})


OWN = """\
-- name: mine
-- description: Runs of one user.
-- param: user
-- param: since = 1 day
SELECT count(*) AS n FROM runs WHERE user_id = $user AND ended >= ago($since);
"""


def test_queries_of_a_folder_stand_beside_the_others(tmp_path: Path, root: Path) -> None:
    (tmp_path / "mine.sql").write_text(OWN)
    (tmp_path / "notes.txt").write_text("not a query")
    known = named_queries([tmp_path])
    assert known["mine"].signature == ["user", "since=1 day"]
    assert known.keys() == named_queries().keys() | {"mine"}
    assert list(known) == sorted(known)
    with open_log(root) as log:
        assert log.query(known["mine"].sql, known["mine"].bind({"user": "u"})).to_pylist() == [{"n": 0}]


def test_of_two_queries_with_one_name_that_of_the_last_folder_counts(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "slowest_runs.sql").write_text(
            f"-- name: slowest_runs\n-- description: {folder}\nSELECT 1"
        )
    assert named_queries([tmp_path / "a", tmp_path / "b"])["slowest_runs"].description == "b"
    assert named_queries()["slowest_runs"].description != "b"


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        named_queries([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("SELECT 1", 1, "lacks `-- name: ...`"),
        ("-- name: mine\nSELECT 1", 2, "lacks `-- description: ...`"),
        ("-- name: other\n-- description: d\nSELECT 1", 1, "must be other.sql"),
        ("-- name: mine\n-- name: mine\n-- description: d\n", 2, "'name' is there already"),
        ("-- name: mine\n-- description:\nSELECT 1", 2, "'description' is empty"),
        ("-- name: mine\n-- description: d\n-- parm: x = 1\nSELECT $x", 3, "did you mean 'param'?"),
        ("-- name: mine\n-- description: d\n-- param: 1x = 1\nSELECT 1", 3, "NAME = default"),
        ("-- name: mine\n-- description: d\n-- param: x = 1\n-- param: x = 2\nSELECT $x", 4, "is there already"),
        ("-- name: mine\n-- description: d\n-- param: x = 1\nSELECT $xy", 3, "does not use $x"),
    ],
)
def test_a_broken_header_is_refused_with_its_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    (tmp_path / "mine.sql").write_text(text)
    with pytest.raises(ValidationError) as refused:
        named_queries([tmp_path])
    assert f"mine.sql, line {line}: " in refused.value.message
    assert message in refused.value.message


def test_a_query_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_bytes(b"-- name: \xff")
    with pytest.raises(ValidationError, match=r"mine\.sql is not UTF-8"):
        named_queries([tmp_path])
