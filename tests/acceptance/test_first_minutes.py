"""What a newcomer does in the first five minutes, against the real command on a real Ray."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from support.data import shared
from support.served import Served, rayflow, served


def query(server: Served, *arguments: str) -> list[dict[str, object]]:
    done = rayflow("query", *arguments, "--format", "json", cwd=server.cwd)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def wait_for_rows(server: Served, sql: str) -> list[dict[str, object]]:
    """Rows of the log, which may take its flush interval to show."""
    until = time.monotonic() + 5
    while not (rows := query(server, sql)) and time.monotonic() < until:
        time.sleep(0.2)
    return rows


async def test_the_official_client_works_unchanged(team: Served) -> None:
    async with openai.AsyncOpenAI(base_url=team.url + "/v1", api_key="any", max_retries=0) as client:
        models = [model.id async for model in client.models.list()]
        assert models == ["support-team", "general", "billing", "technical"]
        messages = [{"role": "user", "content": "How do I get a refund?"}]
        answer = await client.chat.completions.create(model="support-team", messages=messages)  # type: ignore[call-overload]
        assert "refund" in answer.choices[0].message.content.lower()
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0

        stream = await client.chat.completions.create(  # type: ignore[call-overload]
            model="billing", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert "refund" in text.lower()
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage.total_tokens > 0

        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="no-such-model", messages=messages)  # type: ignore[call-overload]
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="auto", messages=[])


def test_a_second_turn_uses_the_first(team: Served) -> None:
    _, session = team.chat("My order number is 48213 and the parcel arrived broken.")
    team.chat("I live in Lisbon.", session)
    answer, same = team.chat("What was my order number?", session)
    assert "48213" in answer
    assert same == session
    assert [role for role, _ in team.history(session)] == ["user", "assistant"] * 3


def test_a_question_for_two_agents_gets_one_joined_answer(team: Served) -> None:
    answer, _ = team.chat("Why is there a payment error at checkout?")
    assert "**billing**" in answer
    assert "**technical**" in answer


def test_every_actor_has_a_readable_name_and_an_address(team: Served) -> None:
    done = rayflow("status", "--json", cwd=team.cwd)
    status = json.loads(done.stdout)
    assert status["state"] == "ready"
    actors = {actor["address"]: actor["role"] for actor in status["actors"]}
    assert (
        actors.items()
        >= {
            "coordinator": "coordinator",
            "eventlog/0": "eventlog",
            "session/0": "session",
            "aggregator/0": "aggregator",
            "agent/general/0": "agent",
            "agent/billing/0": "agent",
            "agent/technical/0": "agent",
            "router/0": "router",
            "ingress/0": "ingress",
            "ingress/1": "ingress",
        }.items()
    )


def test_what_happened_can_be_queried_seconds_later(team: Served) -> None:
    _, session = team.chat("Is there an invoice for order 7?")
    rows = wait_for_rows(team, f"select agents, status from runs where session_id = '{session}' and status = 'ok'")
    assert rows == [{"agents": ["billing"], "status": "ok"}]
    for name in ("latency_by_agent", "tokens_by_workflow", "errors_per_minute", "slowest_runs"):
        assert query(team, "--name", name), name


def test_a_second_system_on_the_same_state_folder_is_refused(team: Served) -> None:
    done = rayflow("serve", "--port", "0", cwd=team.cwd)
    assert done.returncode == 6
    assert "in use by process" in done.stderr
    assert team.url in done.stderr


def test_the_chat_command_joins_the_served_system(team: Served) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "rayflow", "chat"],
        cwd=team.cwd,
        input="My name is Ada.\nWhat is my name?\nhistory\nmetrics\nquit\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("Ada") >= 3


def rows_of_job(team: Served, folder: str, code: int = 0) -> list[dict[str, Any]]:
    done = rayflow("batch", "results", f"./{folder}", cwd=team.cwd)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_batch_runs_on_the_served_system_and_every_line_gets_one_row(team: Served) -> None:
    prompts = shared("data", "prompts", "mt_bench_80.jsonl")
    lines = prompts.read_text().splitlines()
    lines.insert(40, '{"question_id": 1, "turns": ["unfinished')
    source = team.cwd / "prompts.jsonl"
    source.write_text("\n".join(lines) + "\n")
    done = rayflow("batch", "run", str(source), "--out", "mt", "--json", cwd=team.cwd)
    assert done.returncode == 5, done.stderr
    rows = rows_of_job(team, "mt", code=5)
    assert [row["ordinal"] for row in rows] == list(range(1, 82))
    failed = [row for row in rows if row["status"] != "ok"]
    assert [(row["line"], row["error"]) for row in failed] == [(41, "invalid-json")]
    assert all(len(row["answers"]) == 2 for row in rows if row["status"] == "ok")
    assert len({row["session_id"] for row in rows if row["status"] == "ok"}) == 80
    counted = wait_for_rows(
        team, "select count(*) as n from runs where channel = 'batch' and status = 'ok' having n = 160"
    )
    assert counted == [{"n": 160}]


def test_dialogues_are_replayed_turn_by_turn(team: Served) -> None:
    source = shared("data", "conversations", "sgd_train_3000.jsonl.gz")
    done = rayflow("batch", "run", str(source), "--out", "sgd", "--limit", "300", "--json", cwd=team.cwd, timeout_s=300)
    assert done.returncode == 0, done.stderr
    rows = rows_of_job(team, "sgd")
    assert len(rows) == 300
    assert all(row["status"] == "ok" and len(row["answers"]) == len(row["turns"]) for row in rows)
    first = rows[0]
    said = [text for role, text in team.history(first["session_id"]) if role == "user"]
    assert said == first["turns"]


def test_an_endpoint_that_is_not_ours(tmp_path: Path) -> None:
    import subprocess
    import sys
    from socket import socket

    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    upstream = subprocess.Popen([sys.executable, str(shared("bench", "upstream.py")), "--port", str(port), "--n", "1"])
    try:
        workflow = tmp_path / "w.yaml"
        workflow.write_text(
            "name: w\nagents: [{name: a, model: fake, system_prompt: Be brief.}]\n"
            f"models: [{{name: fake, provider: openai, base_url: 'http://127.0.0.1:{port}/v1'}}]\n"
        )
        with served(str(workflow), "--in-process", cwd=tmp_path) as server:
            first, session = server.chat("hello")
            assert first.startswith("h2 ")
            second, _ = server.chat("again", session)
            assert second.startswith("h4 ")
            assert server.stop() == 0
    finally:
        upstream.terminate()
        upstream.wait(10)
