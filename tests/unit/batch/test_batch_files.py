"""The folder of a job, its parts, and what is made of them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from conftest import CONFIG, Bench

from rayflow.batch import parts, ranges
from rayflow.batch.estimate import ANSWER_TOKENS, estimate
from rayflow.batch.export import export
from rayflow.batch.inputs.source import Source
from rayflow.batch.row import Row
from rayflow.batch.spec import workflow_version
from rayflow.batch.status import Totals
from rayflow.config.schema import AgentConfig
from rayflow.errors import Conflict, NotFound, StorageError


def journal(path: Path, *rows: Row, torn: bytes = b"") -> None:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows) + torn)


def row(n: int, answer: str = "x", error: str | None = None) -> Row:
    return Row(n, f"q{n}", "error" if error else "ok", error=error, answers=[] if error else [answer])


def ordinals(part: Path) -> list[int]:
    found: list[int] = pq.read_table(part)["ordinal"].to_pylist()
    return found


def test_a_journal_becomes_a_part_in_the_order_of_the_input(tmp_path: Path) -> None:
    part, lines = tmp_path / "part-00000.parquet", tmp_path / "00000.jsonl"
    journal(lines, row(3), row(1), row(2, error="model-failed"), torn=b'{"ordinal": 4')
    totals = parts.merge(part, lines)
    assert ordinals(part) == [1, 2, 3] and not lines.exists()
    assert totals == Totals(rows=3, ok=2, failed=1, turns=2, errors={"model-failed": 1}) == parts.totals_of(part)


def test_rows_that_came_later_take_the_place_of_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_ROWS", 2)
    part, lines = tmp_path / "part-00000.parquet", tmp_path / "00000.jsonl"
    journal(lines, *(row(n, error="model-failed") for n in (2, 4, 5, 9)))
    parts.merge(part, lines)
    journal(lines, row(9), row(4), row(1), row(7), row(4, "last"))
    totals = parts.merge(part, lines)
    assert ordinals(part) == [1, 2, 4, 5, 7, 9]
    assert (totals.ok, totals.errors) == (4, {"model-failed": 2})
    table = pq.read_table(part)
    assert table["answers"].to_pylist()[2] == ["last"]


def test_a_damaged_line_that_is_not_the_last_is_named(tmp_path: Path) -> None:
    lines = tmp_path / "00000.jsonl"
    lines.write_bytes(b'{"ordinal": 1, "id"\n' + msgspec.json.encode(row(2)) + b"\n")
    with pytest.raises(StorageError, match="byte 0 is damaged"):
        parts.merge(tmp_path / "part-00000.parquet", lines)
    assert lines.exists()


def test_a_row_belongs_to_one_range_by_its_number() -> None:
    assert [ranges.range_of(n) for n in (1, ranges.ROWS, ranges.ROWS + 1)] == [0, 0, 1]


def test_a_folder_of_the_first_layout_is_refused_with_words(bench: Bench) -> None:
    bench.directory.path.mkdir()
    (bench.directory.path / "job.json").write_text('{"job_id": "x", "version": 1}')
    with pytest.raises(Conflict, match="earlier version"):
        bench.job()
    assert bench.job(overwrite=True)


def test_results_without_a_job_are_refused(bench: Bench) -> None:
    bench.directory.results.mkdir(parents=True)
    with pytest.raises(Conflict, match="no job"):
        bench.job()


def test_a_file_is_no_folder(bench: Bench) -> None:
    bench.directory.path.write_text("x")
    with pytest.raises(Conflict, match="is a file"):
        bench.job()


def test_a_damaged_job_is_named(bench: Bench) -> None:
    bench.directory.path.mkdir()
    (bench.directory.path / "job.json").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        bench.job()


async def test_overwriting_leaves_what_is_somebody_elses(bench: Bench) -> None:
    bench.prompts(2)
    await bench.job().run()
    (bench.directory.results / "notes.txt").write_text("mine")
    await bench.job(agent="echo", overwrite=True).run()
    assert (bench.directory.results / "notes.txt").exists()


def test_a_job_that_is_made_but_not_started_has_a_status(bench: Bench) -> None:
    with pytest.raises(NotFound):
        bench.directory.status()
    job = bench.directory.plan(bench.spec(), 17)
    bench.directory.create(job)
    assert bench.directory.job() == job
    assert (bench.directory.status().state, bench.directory.status().created_us) == ("created", 17)
    assert not bench.directory.running


def test_the_version_of_a_workflow_is_what_decides_its_answers() -> None:
    version = workflow_version(CONFIG)
    slower = CONFIG.model_copy(update={"agents": [AgentConfig(name="echo", model="priced", timeout_s=9)]})
    other = CONFIG.model_copy(update={"agents": [AgentConfig(name="echo", model="priced", system_prompt="x")]})
    assert workflow_version(slower) == version != workflow_version(other)


async def test_results_are_exported_in_order_in_each_format(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "ROWS", 4)
    bench.write(*({"prompt": f"p{n}"} for n in range(1, 6)), b"bad", {"turns": ["a", "b"]})
    await bench.job().run()
    out = io.BytesIO()
    assert export(bench.directory, "jsonl", out) == 7
    lines = [msgspec.json.decode(line, type=Row) for line in out.getvalue().splitlines()]
    assert [line.ordinal for line in lines] == [*range(1, 8)] and lines == bench.rows()
    out = io.BytesIO()
    assert export(bench.directory, "csv", out) == 7
    table = list(csv.DictReader(io.StringIO(out.getvalue().decode())))
    assert json.loads(table[6]["answers"]) == ["echo: a", "echo: b"] and table[5]["error"] == "invalid-json"
    out = io.BytesIO()
    assert export(bench.directory, "parquet", out, "ok") == 6
    assert pq.read_table(io.BytesIO(out.getvalue()))["ordinal"].to_pylist() == [1, 2, 3, 4, 5, 7]
    out = io.BytesIO()
    assert export(bench.directory, "jsonl", out, "error") == 1


def test_a_dry_run_counts_rows_tokens_and_cost_and_calls_nobody(bench: Bench) -> None:
    bench.write({"prompt": "one two three"}, {"turns": ["four", "five"]}, b"bad")
    spec = bench.spec()
    found = estimate(spec, CONFIG, Source(spec.inputs), bench.directory)
    assert (found.rows, found.bad, found.turns, found.counted_rows) == (3, 1, 3, 2)
    assert found.completion_tokens == 3 * ANSWER_TOKENS
    assert found.prompt_tokens > ANSWER_TOKENS  # the second turn is told the first answer
    expected = (found.prompt_tokens * 1.0 + found.completion_tokens * 2.0) / 1e6
    assert found.cost_usd == pytest.approx(expected, abs=1e-6)
    assert found.seconds > 0 and not bench.client.calls
