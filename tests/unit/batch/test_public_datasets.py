"""The readers against datasets as they are found in the wild (skipped where those are not at hand)."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import orjson
import pytest
from conftest import ScriptedClient, no_wait

from rayflow.batch.engine import BatchJob
from rayflow.batch.folder import JobFolder
from rayflow.batch.items import BadItem, Item
from rayflow.batch.readers import Record, read_entries
from rayflow.batch.source import Source


def items(path: Path) -> list[Item | BadItem]:
    return list(Source(path).items())


def test_mt_bench_has_two_turns_each(public_data: Path) -> None:
    read = items(public_data / "prompts" / "mt_bench_80.jsonl")
    assert len(read) == 80
    assert all(isinstance(item, Item) and len(item.turns) == 2 for item in read)
    assert read[0].id == "81"


@pytest.mark.parametrize(
    ("name", "number"),
    [("sgd_train_3000.jsonl.gz", 3000), ("taskmaster4_400.jsonl.gz", 400), ("abcd_sample_3.jsonl", 3)],
)
def test_conversations_replay_exactly_their_user_turns(public_data: Path, name: str, number: int) -> None:
    path = public_data / "conversations" / name
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    read = items(path)
    assert len(read) == number
    for item, line in zip(read, data.splitlines(), strict=True):
        said = [turn["content"] for turn in orjson.loads(line)["turns"] if turn["role"] == "user"]
        assert isinstance(item, Item) and item.turns == said


def test_naughty_strings_are_sent_as_they_are(public_data: Path) -> None:
    path = public_data / "badinput" / "blns.jsonl"
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for item, row in zip(items(path), rows, strict=True):
        if row["text"].strip():
            assert isinstance(item, Item) and item.turns == [row["text"]]
        else:
            assert isinstance(item, BadItem) and "blank" in item.message


def test_each_case_of_the_json_test_suite_is_one_entry_and_never_wrong(public_data: Path, tmp_path: Path) -> None:
    path = public_data / "badinput" / "jsontestsuite_parsing.jsonl.gz"
    line_file = tmp_path / "case.jsonl"
    for case in map(orjson.loads, gzip.decompress(path.read_bytes()).splitlines()):
        data = base64.b64decode(case["base64"])
        if b"\n" in data:
            continue
        line_file.write_bytes(data + b"\n[1]\n")
        entry, after = read_entries(line_file, ("prompt",), ())
        assert isinstance(after, Record) and after.value == [1]
        if case["expect"] != "either":
            assert isinstance(entry, Record) == (case["expect"] == "accept"), case["name"]


async def test_three_hundred_conversations_give_three_hundred_rows(public_data: Path, tmp_path: Path) -> None:
    source = Source(public_data / "conversations" / "sgd_train_3000.jsonl.gz", limit=300)
    client = ScriptedClient()
    summary = await BatchJob(client, source, JobFolder(tmp_path), sleep=no_wait).run()
    assert (summary.items, summary.ok) == (300, 300)
    assert (
        summary.turns == len(client.calls) == sum(len(item.turns) for item in source.items() if isinstance(item, Item))
    )
