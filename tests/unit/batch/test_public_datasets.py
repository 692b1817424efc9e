"""Jobs over datasets as they are found in the wild (skipped where those are not at hand)."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pytest
from conftest import Bench

from rayflow.batch.inputs.source import Source
from rayflow.batch.spec import Inputs, JobSpec
from rayflow.batch.tasks import BadTask, Task, Tasks


def tasks(path: Path) -> list[Task | BadTask]:
    spec = JobSpec(Inputs([str(path)]))
    return [*map(Tasks(spec).task, Source(spec.inputs).rows())]


def test_mt_bench_has_two_turns_each(public_data: Path) -> None:
    made = tasks(public_data / "prompts" / "mt_bench_80.jsonl")
    assert len(made) == 80
    assert all(isinstance(task, Task) and len(task.turns) == 2 for task in made)
    assert made[0].about.id == "81"


@pytest.mark.parametrize("name", ["sgd_train_3000.jsonl.gz", "taskmaster4_400.jsonl.gz", "abcd_sample_3.jsonl"])
def test_conversations_replay_exactly_their_user_turns(public_data: Path, name: str) -> None:
    path = public_data / "conversations" / name
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for task, line in zip(tasks(path), data.splitlines(), strict=True):
        said = [turn["content"] for turn in orjson.loads(line)["turns"] if turn["role"] == "user"]
        assert isinstance(task, Task) and task.texts == said


def test_naughty_strings_are_sent_as_they_are(public_data: Path) -> None:
    path = public_data / "badinput" / "blns.jsonl"
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for task, row in zip(tasks(path), rows, strict=True):
        if row["text"].strip():
            assert isinstance(task, Task) and task.texts == [row["text"]]
        else:
            assert isinstance(task, BadTask) and "blank" in task.message


async def test_three_hundred_conversations_give_three_hundred_rows(public_data: Path, bench: Bench) -> None:
    inputs = Inputs([str(public_data / "conversations" / "sgd_train_3000.jsonl.gz")])
    spec = JobSpec(inputs, limits=bench.spec(limits={"limit": 300}).limits)
    status = await bench.job(spec).run()
    assert (status.state, status.totals.rows, status.totals.ok) == ("finished", 300, 300)
    assert status.totals.turns == len(bench.client.calls) == sum(len(row.turns) for row in bench.rows())


async def test_whatever_is_in_a_file_each_of_its_rows_has_a_row_of_the_results(public_data: Path, bench: Bench) -> None:
    """Hostile texts and broken JSON, byte for byte as they are."""
    for path in sorted((public_data / "badinput").glob("*.jsonl*")):
        spec = JobSpec(Inputs([str(path)]))
        status = await bench.job(spec, overwrite=True).run()
        rows = bench.rows()
        assert [row.ordinal for row in rows] == list(range(1, Source(spec.inputs).count() + 1)), path
        assert (status.state, status.totals.rows) == ("finished", len(rows))
        assert all((row.status == "ok") == (row.error is None) for row in rows)
