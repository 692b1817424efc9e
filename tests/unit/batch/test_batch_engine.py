from __future__ import annotations

import asyncio
import random

import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import Bench

from rayflow.batch.journal import Journal
from rayflow.batch.results import SCHEMA
from rayflow.batch.row import Row
from rayflow.batch.summary import Summary
from rayflow.errors import Conflict, ModelTimeout, StorageFull, ValidationError
from rayflow.messages import RunRequest


async def settled(bench: Bench, in_flight: int) -> None:
    """Wait until so many items are in flight (reading ahead happens in a thread)."""
    while bench.client.in_flight < in_flight:
        await asyncio.sleep(0)


class Gates:
    """Every run waits until its gate opens."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[None]] = {}

    def __call__(self, request: RunRequest) -> asyncio.Future[None]:
        gate = asyncio.get_running_loop().create_future()
        self.waiting[request.messages[0].text] = gate
        return gate

    def open(self, text: str) -> None:
        self.waiting.pop(text).set_result(None)


async def test_every_input_line_has_exactly_one_row_in_order(bench: Bench) -> None:
    rng = random.Random(5)
    bench.write(
        {"id": "a", "prompt": "one"},
        b"{broken",
        b"",
        {"id": "c", "turns": ["two", "three"]},
        {"id": "a", "prompt": "again"},
        b'{"prompt": "\xff"}',
        {"nothing": 1},
        *({"prompt": f"more {n}"} for n in range(50)),
    )

    async def a_while() -> None:
        for _ in range(rng.randrange(20)):
            await asyncio.sleep(0)

    bench.client.gate = lambda request: asyncio.ensure_future(a_while())
    summary = await bench.job(concurrency=8).run()
    rows = bench.rows()
    assert [row.ordinal for row in rows] == list(range(1, 57))
    assert [row.error for row in rows[:6]] == [
        None, "invalid-json", None, "conflict", "invalid-encoding", "invalid-request",
    ]  # fmt: skip
    assert [row.line for row in rows[:6]] == [1, 2, 4, 5, 6, 7]
    assert rows[2].answers == ["echo: two", "echo: three"]
    assert all(row.status == "ok" for row in rows[6:])
    assert (summary.state, summary.items, summary.ok, summary.failed) == ("finished", 56, 52, 4)
    assert (summary.blank_lines, summary.turns, summary.prompt_tokens) == (1, 53, 159)
    assert summary.errors == {"invalid-json": 1, "conflict": 1, "invalid-encoding": 1, "invalid-request": 1}
    assert bench.folder.finished() == summary


async def test_parquet_and_jsonl_hold_the_same_rows(bench: Bench) -> None:
    bench.write({"prompt": "one"}, b"nonsense", {"turns": ["two", "three"]})
    await bench.job().run()
    table = pq.read_table(bench.folder.results_parquet)
    assert table.schema == SCHEMA and table.schema.names == list(Row.__struct_fields__)
    assert table.to_pylist() == [msgspec.structs.asdict(row) for row in bench.rows()]


async def test_many_rows_span_row_groups_in_order(bench: Bench) -> None:
    bench.prompts(2500)
    await bench.job(concurrency=32).run()
    file = pq.ParquetFile(bench.folder.results_parquet)
    assert file.num_row_groups == 3
    assert file.read(["ordinal"])["ordinal"].to_pylist() == list(range(1, 2501))
    file.close()


async def test_items_never_exceed_the_window_and_a_slow_one_holds_up_nobody(bench: Bench) -> None:
    bench.prompts(20)
    bench.client.gate = gates = Gates()
    running = asyncio.create_task(bench.job(concurrency=3).run())
    await settled(bench, 3)
    for n in range(4, 21):  # item 1 stays in flight while all others pass by
        gates.open(next(text for text in gates.waiting if text != "prompt 1"))
        while len(bench.client.calls) < n:
            await asyncio.sleep(0)
    while len(gates.waiting) > 1:
        gates.open(next(text for text in gates.waiting if text != "prompt 1"))
    assert len(bench.client.calls) == 20
    gates.open("prompt 1")
    assert (await running).ok == 20
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
    summary = await running
    assert (summary.state, summary.items, summary.total) == ("interrupted", 3, 20)
    assert len(bench.client.calls) == 3 and len(bench.rows()) == 3
    assert bench.client.events[-1].status == "cancelled"
    bench.client.gate = lambda request: None
    summary = await bench.job().run()
    assert (summary.state, summary.ok, summary.run) == ("finished", 20, 17)
    assert len(bench.client.calls) == 20


async def test_a_stop_before_the_start_runs_nothing(bench: Bench) -> None:
    bench.prompts(5)
    job = bench.job()
    job.stop()
    summary = await job.run()
    assert (summary.state, summary.items) == ("interrupted", 0)
    assert not bench.client.calls


async def test_cancelling_drops_the_runs_in_flight_and_keeps_the_finished_rows(bench: Bench) -> None:
    bench.prompts(10)
    bench.client.gate = gates = Gates()
    running = asyncio.create_task(bench.job(concurrency=2).run())
    await settled(bench, 2)
    gates.open("prompt 1")
    while "prompt 3" not in gates.waiting:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.client.in_flight == 0
    assert not bench.folder.results_jsonl.exists() and bench.folder.finished() is None
    bench.client.gate = lambda request: None
    bench.client.calls.clear()
    assert (await bench.job().run()).ok == 10
    assert "prompt 1" not in bench.client.asked()


async def test_a_finished_job_run_again_asks_nothing_and_gives_the_same_rows(bench: Bench) -> None:
    bench.prompts(8)
    await bench.job().run()
    before = bench.folder.results_jsonl.read_bytes()
    summary = await bench.job().run()
    assert len(bench.client.calls) == 8
    assert (summary.run, summary.ok) == (0, 8)
    assert bench.folder.results_jsonl.read_bytes() == before


async def test_failed_items_are_run_again_only_when_asked(bench: Bench) -> None:
    bench.prompts(4)
    bench.client.failures["prompt 2"] = iter([ModelTimeout("slow")])
    assert (await bench.job().run()).errors == {"model-timeout": 1}
    assert (await bench.job().run()).failed == 1
    assert len(bench.client.calls) == 4
    summary = await bench.job(retry_failed=True).run()
    assert (summary.ok, summary.failed, summary.run) == (4, 0, 1)
    assert bench.client.asked()[4:] == ["prompt 2"]
    again = bench.rows()[1]
    assert again.attempts == 2 and again.error is None
    assert len({call.session_id for call in bench.client.calls}) == 5


async def test_a_larger_limit_runs_only_the_further_items(bench: Bench) -> None:
    bench.prompts(10)
    small = await bench.job(limit=3).run()
    assert (small.total, small.items, small.state) == (3, 3, "finished")
    assert small.covers(3) and not small.covers(10)
    await bench.job().run()
    assert sorted(bench.client.asked()) == sorted({f"prompt {n}" for n in range(1, 11)})


async def test_a_changed_input_is_refused_before_anything_runs(bench: Bench) -> None:
    bench.prompts(3)
    await bench.job().run()
    bench.prompts(4)
    with pytest.raises(Conflict, match="--overwrite"):
        await bench.job().run()
    assert len(bench.client.calls) == 3 and len(bench.rows()) == 3
    assert (await bench.job(overwrite=True).run()).ok == 4
    assert len(bench.client.calls) == 7


async def test_a_job_tells_of_its_start_and_end(bench: Bench) -> None:
    bench.write({"prompt": "one"}, b"broken")
    summary = await bench.job().run()
    started, finished = bench.client.events
    assert (started.kind, started.data) == ("batch.started", {"input": str(bench.input), "items": 2})
    assert (finished.kind, finished.status, finished.data) == ("batch.finished", "ok", {"ok": 1, "failed": 1})
    assert started.job_id == finished.job_id == summary.job_id == bench.client.calls[0].job_id
    assert started.channel == "batch" and finished.duration_ms is not None


async def test_progress_counts_what_is_done_and_what_was_before(bench: Bench) -> None:
    bench.write({"prompt": "one"}, b"broken", {"prompt": "three"})
    await bench.job(limit=1).run()
    job = bench.job()
    await job.run()
    progress = job.progress
    assert (progress.total, progress.skipped, progress.ok, progress.failed) == (3, 1, 1, 1)
    assert (progress.done, progress.run, progress.in_flight) == (3, 2, 0)


async def test_a_full_disk_ends_the_job_and_a_later_start_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.prompts(10)
    append = Journal.append

    def full(self: Journal, row: Row) -> None:
        if row.ordinal > 4:
            raise StorageFull("no space left")
        append(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        with pytest.raises(StorageFull):
            await bench.job(concurrency=1).run()
    assert bench.client.events[-1].status == "error"
    bench.client.calls.clear()
    assert (await bench.job().run()).ok == 10
    assert sorted(bench.client.asked()) == sorted(f"prompt {n}" for n in range(5, 11))


async def test_an_input_that_cannot_be_read_any_more_is_an_error_of_the_job(bench: Bench) -> None:
    bench.prompts(3)
    job = bench.job()
    bench.input.unlink()
    with pytest.raises(ValidationError, match="cannot be read"):
        await job.run()


async def test_an_empty_input_is_a_finished_job_without_rows(bench: Bench) -> None:
    bench.input.write_bytes(b"\n\n")
    summary = await bench.job().run()
    assert (summary.state, summary.items, summary.blank_lines) == ("finished", 0, 2)
    assert pq.read_table(bench.folder.results_parquet).num_rows == 0


async def test_results_of_a_start_replace_those_of_the_last_one_whole(bench: Bench) -> None:
    bench.prompts(3)
    await bench.job(limit=1).run()
    await bench.job().run()
    names = {path.name for path in bench.folder.path.iterdir()}
    assert names == {"job.json", "journal.jsonl", "results.jsonl", "results.parquet", "summary.json"}
    assert msgspec.json.decode(bench.folder.summary.read_bytes(), type=Summary).items == 3
