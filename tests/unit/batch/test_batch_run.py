from __future__ import annotations

import asyncio
import random
from itertools import repeat

import duckdb
import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import Bench

from rayflow.batch import ranges
from rayflow.batch.parts import SCHEMA
from rayflow.batch.row import Row
from rayflow.batch.spec import JobSpec, Judging, Selection
from rayflow.chat import ModelParams
from rayflow.errors import (
    BudgetExceeded,
    Conflict,
    ModelRejected,
    ModelTimeout,
    Overloaded,
    StorageFull,
    ValidationError,
)
from rayflow.messages import RunRequest


async def settled(bench: Bench, in_flight: int) -> None:
    """Wait until so many rows are in flight (reading ahead happens in a thread)."""
    while bench.client.in_flight < in_flight:
        await asyncio.sleep(0)


class Gates:
    """Every run waits until its gate opens."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[None]] = {}

    def __call__(self, request: RunRequest) -> asyncio.Future[None]:
        gate = asyncio.get_running_loop().create_future()
        self.waiting[request.messages[-1].text] = gate
        return gate

    def open(self, text: str) -> None:
        self.waiting.pop(text).set_result(None)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "ROWS", 4)


async def test_every_row_of_the_input_has_exactly_one_row_in_order(bench: Bench, small_ranges: None) -> None:
    rng = random.Random(5)
    bench.write(
        {"id": "a", "prompt": "one"},
        b"{broken",
        b"",
        {"id": "c", "turns": ["two", "three"]},
        b'{"prompt": "\xff"}',
        {"nothing": 1},
        *({"prompt": f"more {n}"} for n in range(50)),
    )

    async def a_while() -> None:
        for _ in range(rng.randrange(20)):
            await asyncio.sleep(0)

    bench.client.gate = lambda request: asyncio.ensure_future(a_while())
    status = await bench.job(concurrency=8).run()
    rows = bench.rows()
    assert [row.ordinal for row in rows] == list(range(1, 56))
    assert [row.error for row in rows[:5]] == [None, "invalid-json", None, "invalid-encoding", "invalid-request"]
    assert [row.line for row in rows[:5]] == [1, 2, 4, 5, 6]
    assert rows[2].answers == ["echo: two", "echo: three"]
    assert all(row.status == "ok" for row in rows[5:])
    totals = status.totals
    assert (status.state, totals.rows, totals.ok, totals.failed) == ("finished", 55, 52, 3)
    assert (status.blank_lines, totals.turns, totals.prompt_tokens) == (1, 53, 159)
    assert totals.errors == {"invalid-json": 1, "invalid-encoding": 1, "invalid-request": 1}
    assert bench.directory.status() == status
    assert len(bench.directory.parts()) == 14 and not bench.directory.journals()


async def test_two_equal_rows_are_two_rows_of_the_results_and_two_runs(bench: Bench) -> None:
    bench.write({"prompt": "same"}, {"prompt": "same"})
    await bench.job().run()
    first, second = bench.rows()
    assert (first.ordinal, second.ordinal) == (1, 2) and first.key == second.key
    assert len(bench.client.calls) == 2


async def test_the_parts_open_in_arrow_and_duckdb_as_one_table(bench: Bench, small_ranges: None) -> None:
    bench.write({"prompt": "one"}, b"nonsense", {"turns": ["two", "three"]}, {"prompt": "four"}, {"prompt": "five"})
    await bench.job().run()
    table = pq.read_table(bench.directory.results)
    assert table.schema.names == SCHEMA.names == list(Row.__struct_fields__)
    assert table.sort_by("ordinal").to_pylist() == [msgspec.structs.asdict(row) for row in bench.rows()]
    found = duckdb.sql(f"select count(*), count(distinct ordinal) from '{bench.directory.results}/*.parquet'")
    assert found.fetchall() == [(5, 5)]


async def test_rows_never_exceed_the_window_and_a_slow_one_holds_up_nobody(bench: Bench) -> None:
    bench.prompts(20)
    bench.client.gate = gates = Gates()
    running = asyncio.create_task(bench.job(concurrency=3).run())
    await settled(bench, 3)
    for n in range(4, 21):  # row 1 stays in flight while all others pass by
        gates.open(next(text for text in gates.waiting if text != "prompt 1"))
        while len(bench.client.calls) < n:
            await asyncio.sleep(0)
    while len(gates.waiting) > 1:
        gates.open(next(text for text in gates.waiting if text != "prompt 1"))
    gates.open("prompt 1")
    assert (await running).totals.ok == 20
    assert bench.client.peak == 3


async def test_stop_finishes_what_is_in_flight_and_begins_nothing_more(bench: Bench) -> None:
    bench.prompts(20)
    bench.client.gate = gates = Gates()
    job = bench.job(concurrency=3)
    running = asyncio.create_task(job.run())
    await settled(bench, 3)
    job.stop()
    for text in list(gates.waiting):
        gates.open(text)
    status = await running
    assert (status.state, status.totals.rows) == ("interrupted", 3)
    assert len(bench.client.calls) == 3 and len(bench.rows()) == 3
    assert bench.client.events[-1].status == "cancelled"
    bench.client.gate = lambda request: None
    assert (await bench.job().run()).totals.ok == 20
    assert sorted(bench.client.asked()) == sorted(f"prompt {n}" for n in range(1, 21))
    assert bench.client.emitted() == ["batch.started", "batch.finished", "batch.resumed", "batch.finished"]


async def test_who_asks_from_elsewhere_ends_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.batch.run.REPORT_INTERVAL_S", 0.001)
    bench.prompts(20)
    bench.client.gate = gates = Gates()
    running = asyncio.create_task(bench.job(concurrency=3).run())
    await settled(bench, 3)
    assert bench.directory.running and bench.directory.status().state == "running"
    bench.directory.ask("cancel")
    while not running.done():
        for text in list(gates.waiting):
            gates.open(text)
        await asyncio.sleep(0.001)
    status = await running
    assert status.state == "cancelled" and status.totals.rows < 20
    assert not bench.directory.running


async def test_a_limit_runs_the_first_rows_and_a_later_start_the_rest(bench: Bench, small_ranges: None) -> None:
    bench.prompts(11)
    assert (await bench.job(limits={"limit": 6}).run()).totals.rows == 6
    assert (await bench.job().run()).totals.rows == 11
    assert len(bench.client.calls) == 11
    assert [row.ordinal for row in bench.rows()] == list(range(1, 12))


async def test_retry_failed_replaces_the_rows_that_are_errors(bench: Bench, small_ranges: None) -> None:
    bench.prompts(9)
    bench.client.failures["prompt 3"] = iter([ModelTimeout("no token within 5 s")])
    bench.client.failures["prompt 8"] = iter([ModelTimeout("no token within 5 s")])
    first = await bench.job().run()
    assert (first.totals.ok, first.totals.errors) == (7, {"model-timeout": 2})
    assert (await bench.job().run()).run == 0
    again = await bench.job(retry_failed=True).run()
    assert (again.run, again.totals.rows, again.totals.ok, again.totals.errors) == (2, 9, 9, {})
    assert again.totals.prompt_tokens == 27
    assert [(row.ordinal, row.status) for row in bench.rows()] == [(n, "ok") for n in range(1, 10)]


async def test_rows_that_were_added_to_the_input_are_run_and_changed_ones_refused(bench: Bench) -> None:
    bench.write({"prompt": "one"}, {"prompt": "two"})
    await bench.job().run()
    bench.write({"prompt": "one"}, {"prompt": "two"}, {"prompt": "three"})
    assert (await bench.job().run()).totals.rows == 3
    assert bench.client.asked() == ["one", "two", "three"]
    bench.write({"prompt": "one"}, {"prompt": "TWO"}, {"prompt": "three"})
    with pytest.raises(Conflict, match="row 2"):
        await bench.job().run()
    assert bench.directory.status().state == "failed"
    assert [row.turns for row in bench.rows()] == [["one"], ["two"], ["three"]]


async def test_an_input_that_became_shorter_is_refused(bench: Bench) -> None:
    bench.prompts(3)
    await bench.job().run()
    bench.prompts(2)
    with pytest.raises(Conflict, match="shorter"):
        await bench.job().run()


async def test_another_job_is_refused_and_overwrite_forgets_the_first(bench: Bench) -> None:
    bench.prompts(3)
    await bench.job().run()
    with pytest.raises(Conflict, match="agent"):
        bench.job(agent="echo")
    with pytest.raises(Conflict, match="workflow"):
        bench.job(version="other")
    status = await bench.job(agent="echo", overwrite=True).run()
    assert (status.totals.rows, status.starts) == (3, 1)
    assert len(bench.client.calls) == 6


@pytest.mark.parametrize(
    "error",
    [
        ModelRejected("the API key was refused", upstream_status=401),
        ModelRejected("the quota is used up", upstream_status=429, upstream_code="insufficient_quota"),
        BudgetExceeded("used up", retry_after_s=3600),
    ],
)
async def test_what_every_row_would_be_told_pauses_the_job_and_fails_none(bench: Bench, error: Exception) -> None:
    bench.prompts(50)
    for n in range(10, 51):
        bench.client.failures[f"prompt {n}"] = repeat(error)
    status = await bench.job(concurrency=3).run()
    assert status.state == "paused" and status.reason.startswith(f"{error.slug}: ")  # type: ignore[attr-defined]
    assert (status.totals.failed, status.totals.ok) == (0, 9)
    assert len(bench.client.calls) <= 9 + 3
    assert bench.client.emitted().count("batch.paused") == 1
    bench.client.failures.clear()
    again = await bench.job(concurrency=3).run()
    assert (again.state, again.totals.ok) == ("finished", 50)


async def test_a_rejection_of_one_row_is_an_error_of_that_row(bench: Bench) -> None:
    bench.prompts(3)
    bench.client.failures["prompt 2"] = repeat(ModelRejected("content policy", upstream_status=400))
    status = await bench.job().run()
    assert status.state == "finished" and status.totals.errors == {"model-rejected": 1}


async def test_a_limit_of_the_cost_pauses_the_job_before_it_is_exceeded(bench: Bench) -> None:
    bench.prompts(60)
    cost = (3 * 1.0 + 5 * 2.0) / 1e6
    params = ModelParams(max_tokens=5)  # else the first row reserves more than all of them cost
    status = await bench.job(params=params, limits={"cost_usd": 51 * cost}).run()
    assert status.state == "paused" and "cost" in status.reason
    assert (status.totals.rows, status.totals.cost_usd) == (51, pytest.approx(51 * cost))
    again = await bench.job(params=params, limits={"cost_usd": 1.0}).run()
    assert again.state == "finished" and again.totals.cost_usd == pytest.approx(60 * cost)


async def test_a_system_that_is_full_makes_the_window_smaller(bench: Bench) -> None:
    bench.prompts(30)
    bench.client.failures["prompt 1"] = iter([Overloaded("full", retry_after_s=0.0)])
    sizes = []
    job = bench.job(concurrency=10)
    bench.client.gate = lambda request: sizes.append(job.status.window)  # type: ignore[func-returns-value]
    status = await job.run()
    assert status.totals.ok == 30
    assert min(sizes) < 10


async def test_a_row_of_one_turn_has_no_session_unless_somebody_wants_it(bench: Bench) -> None:
    bench.write({"prompt": "one"}, {"turns": ["two", "three"]})
    await bench.job().run()
    assert [(call.messages[0].text, call.stateless) for call in bench.client.calls] == [
        ("one", True),
        ("two", False),
        ("three", False),
    ]
    single, several = bench.rows()
    assert single.session_id is None and several.session_id == bench.client.calls[1].session_id
    await bench.job(sessions=True, overwrite=True).run()
    assert not any(call.stateless for call in bench.client.calls[3:])


async def test_runs_are_the_jobs_and_of_the_lowest_class(bench: Bench) -> None:
    bench.write({"id": "x", "prompt": "one"})
    job = bench.job(tenant="acme", user_id="u", agent="echo", system_prompt="Be brief.")
    status = await job.run()
    (call,) = bench.client.calls
    assert (call.service_class, call.channel, call.job_id, call.item_id) == ("batch", "batch", status.job_id, "x")
    assert (call.tenant, call.user_id, call.agent, call.system_prompt) == ("acme", "u", "echo", "Be brief.")


async def test_options_in_a_row_go_before_those_of_the_job(bench: Bench) -> None:
    bench.write(
        {"messages": [{"role": "user", "content": "one"}], "temperature": 0.1, "agent": "echo"},
        {"messages": [{"role": "user", "content": "two"}]},
        {"messages": [{"role": "user", "content": "three"}], "temperature": "hot"},
    )
    await bench.job(mode="prompt", row_params=True, params=ModelParams(temperature=0.9, seed=1)).run()
    params = {
        call.messages[0].text: (call.params.temperature, call.params.seed, call.agent) for call in bench.client.calls
    }
    assert params == {"one": (0.1, 1, "echo"), "two": (0.9, 1, "")}
    assert bench.rows()[2].error == "invalid-request"


async def test_a_conversation_is_judged_and_the_answer_read(bench: Bench) -> None:
    bench.write(
        {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "go away"}]},
        {"messages": [{"role": "user", "content": "thanks"}, {"role": "assistant", "content": "welcome"}]},
    )
    answers = {"go away": '{"label": "bad", "score": 2}', "welcome": "no idea"}
    bench.client.answer = lambda text: next(answer for said, answer in answers.items() if said in text)
    judging = Judging("Was the assistant polite?", ["good", "bad"], (1, 5))
    status = await bench.job(mode="judge", judging=judging).run()
    first, second = bench.rows()
    assert (first.label, first.score) == ("bad", 2.0)
    assert (second.status, second.error, second.answers) == ("error", "execution-failed", ["no idea"])
    assert "user: hello\n\nassistant: go away" in bench.client.calls[0].messages[0].text
    assert bench.client.calls[0].params.response_format is not None
    assert status.totals.failed == 1


async def test_a_condition_and_a_sample_choose_the_same_rows_at_every_start(bench: Bench) -> None:
    bench.write(*({"prompt": f"p{n}", "lang": "de" if n % 2 else "en"} for n in range(200)))
    selection = Selection(where="lang = 'de' and length(prompt) > 2", sample=20, seed=7)
    first = await bench.job(selection=selection, limits={"limit": 5}).run()
    assert first.totals.rows == 5
    assert (await bench.job(selection=selection).run()).totals.rows == 20
    chosen = [row.turns[0] for row in bench.rows()]
    assert len(set(chosen)) == 20 and all(int(text[1:]) % 2 and len(text) > 2 for text in chosen)
    assert len(bench.client.calls) == 20
    with pytest.raises(Conflict, match="selection"):
        bench.job(selection=Selection(where="lang = 'en'"))


async def test_a_condition_that_is_none_ends_the_job_with_its_words(bench: Bench) -> None:
    bench.prompts(3)
    with pytest.raises(ValidationError, match="lange"):
        await bench.job(selection=Selection(where="lange = 'de'")).run()
    assert bench.directory.status().reason.startswith("invalid-request: ")


async def test_a_full_disk_ends_the_job_and_keeps_what_was_finished(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prompts(20)
    append = ranges.Range.append
    left = iter(range(7))

    def full(self: ranges.Range, row: Row) -> None:
        if next(left, None) is None:
            raise StorageFull("no space left")
        append(self, row)

    monkeypatch.setattr(ranges.Range, "append", full)
    with pytest.raises(StorageFull):
        await bench.job().run()
    monkeypatch.undo()
    assert len(bench.rows()) == 7
    assert (await bench.job().run()).totals.ok == 20


async def test_an_input_that_cannot_be_read_is_the_error_of_the_job(bench: Bench) -> None:
    bench.prompts(3)
    job = bench.job()
    bench.input.unlink()
    with pytest.raises(ValidationError, match="cannot be read"):
        await job.run()
    assert bench.directory.status().state == "failed"


async def test_only_one_process_works_on_a_job(bench: Bench) -> None:
    bench.prompts(3)
    bench.client.gate = gates = Gates()
    running = asyncio.create_task(bench.job().run())
    await settled(bench, 3)
    with pytest.raises(Conflict, match="another process"):
        await bench.job().run()
    for text in list(gates.waiting):
        gates.open(text)
    assert (await running).totals.ok == 3


def test_a_spec_survives_its_way_through_job_json(bench: Bench) -> None:
    spec = bench.spec(mode="judge", judging=Judging("?", ["a"], (0, 1)), selection=Selection("x > 1", 3, 4))
    assert msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec) == spec
