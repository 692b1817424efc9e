from __future__ import annotations

import asyncio
import random
from itertools import repeat

import pytest
from conftest import CONFIG, ScriptedClient

from rayflow.batch.pacing import Window
from rayflow.batch.rows import InputRow
from rayflow.batch.runner import FIRST_WAIT_S, LONGEST_WAIT_S, Bill, Halted, Runner, pause_s
from rayflow.batch.spec import Inputs, JobSpec, Limits
from rayflow.batch.tasks import Task
from rayflow.chat import Message, Usage
from rayflow.errors import ModelError, ModelRateLimited, ModelTimeout, Overloaded, PeerLost, Unavailable, WorkflowError
from rayflow.messages import PartSummary, RunResult

TASK = Task(
    InputRow(4, None, "q4", "x.jsonl", 9, 120),
    "q4",
    [[Message("user", text)] for text in ("one", "two", "three")],
    system_prompt="Be brief.",
)


def runner(client: ScriptedClient, halted: asyncio.Event | None = None) -> Runner:
    spec = JobSpec(Inputs(["x.jsonl"]), limits=Limits(retries=3))
    return Runner(client, spec, "job", 1, halted or asyncio.Event(), Window(8))


async def test_the_turns_of_a_task_run_in_order_in_one_session() -> None:
    client = ScriptedClient()
    row = await runner(client).run(TASK)
    assert client.peak == 1 and client.asked() == ["one", "two", "three"]
    assert row.answers == ["echo: one", "echo: two", "echo: three"] and row.agents == [["echo"]] * 3
    assert (row.prompt_tokens, row.completion_tokens, row.attempts) == (9, 15, 1)
    assert (row.ordinal, row.id, row.key, row.source, row.line, row.byte) == (4, "q4", "q4", "x.jsonl", 9, 120)
    assert row.run_ids == [call.run_id for call in client.calls] and len(set(row.run_ids)) == 3
    assert {(call.session_id, call.system_prompt) for call in client.calls} == {("batch-job-1-4", "Be brief.")}
    assert [call.new_session for call in client.calls] == [True, False, False]
    assert row.cost_usd == pytest.approx(3 * (3 * 1.0 + 5 * 2.0) / 1e6)


async def test_a_task_stops_at_its_first_failed_turn_and_keeps_what_was_answered() -> None:
    client = ScriptedClient()
    client.failures["two"] = iter([ModelTimeout("no token within 5 s", phase="first_token")])
    row = await runner(client).run(TASK)
    assert client.asked() == ["one", "two"]
    assert (row.status, row.error, row.error_message) == ("error", "model-timeout", "no token within 5 s")
    assert row.answers == ["echo: one"] and len(row.run_ids) == 2 and row.turns == ["one", "two", "three"]


async def test_an_unexpected_exception_is_the_error_of_its_row(caplog: pytest.LogCaptureFixture) -> None:
    client = ScriptedClient()
    client.failures["one"] = iter([KeyError("secret")])
    row = await runner(client).run(TASK)
    assert row.error == "internal-error" and "secret" not in (row.error_message or "")
    assert "row 4 of job job failed unexpectedly" in caplog.text


@pytest.mark.parametrize("kind", [Overloaded, Unavailable, ModelRateLimited, PeerLost])
async def test_a_turn_that_nobody_could_take_is_sent_again_under_its_run_id(kind: type[WorkflowError]) -> None:
    client = ScriptedClient()
    client.failures["two"] = iter([kind("full", retry_after_s=0.001), kind("full", retry_after_s=0.001)])
    row = await runner(client).run(TASK)
    assert row.status == "ok" and row.attempts == 3
    assert client.asked() == ["one", "two", "two", "two", "three"]
    assert len({call.run_id for call in client.calls}) == 3


async def test_patience_ends_after_a_bounded_number_of_times() -> None:
    client = ScriptedClient()
    client.failures["one"] = repeat(Unavailable("not ready", retry_after_s=0.001))
    row = await runner(client).run(TASK)
    assert (row.error, len(client.calls), row.attempts) == ("unavailable", 4, 4)


async def test_a_model_that_failed_is_not_asked_again_beyond_its_own_retries() -> None:
    client = ScriptedClient()
    client.failures["one"] = repeat(ModelError("HTTP 500"))
    assert (await runner(client).run(TASK)).error == "model-failed"
    assert len(client.calls) == 1


async def test_a_job_that_ends_waits_for_no_second_try() -> None:
    client, halted = ScriptedClient(), asyncio.Event()
    client.failures["one"] = repeat(Overloaded("full", retry_after_s=3600))
    running = asyncio.create_task(runner(client, halted).run(TASK))
    while not client.calls or client.in_flight:
        await asyncio.sleep(0)
    halted.set()
    with pytest.raises(Halted):
        await running


def test_waits_grow_where_nobody_names_one_and_are_never_longer_than_the_limit() -> None:
    rng = random.Random(1)
    waits = [pause_s(tries, None, rng) for tries in range(10)]
    assert all(FIRST_WAIT_S * 2**n <= wait <= FIRST_WAIT_S * 2**n * 1.25 for n, wait in enumerate(waits[:5]))
    assert LONGEST_WAIT_S <= max(waits) <= LONGEST_WAIT_S * 1.25
    assert 2.0 <= pause_s(0, 2.0, rng) <= 2.5 and pause_s(0, 3600.0, rng) <= LONGEST_WAIT_S * 1.25


async def test_cancelling_is_not_the_error_of_a_row() -> None:
    client = ScriptedClient()
    held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    client.gate = lambda request: held
    running = asyncio.create_task(runner(client).run(TASK))
    while not client.in_flight:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_an_answer_costs_what_its_agents_models_cost_and_is_unknown_without_a_price() -> None:
    def result(agent: str) -> RunResult:
        return RunResult(
            "r", "s", "", "stop", Usage(), "", [agent], parts=[PartSummary(agent, "ok", usage=Usage(1000, 10))]
        )

    bill = Bill(CONFIG)
    assert bill.cost([result("echo"), result("echo")]) == pytest.approx(2 * (1000 * 1.0 + 10 * 2.0) / 1e6)
    assert bill.cost([result("somebody")]) is None and bill.cost([]) is None
    assert bill.dearest.name == "priced"
