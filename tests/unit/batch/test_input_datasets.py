"""Inputs as they are found in the wild (skipped where those are not at hand)."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import orjson
import pytest

from rayflow.batch.inputs.source import Source
from rayflow.batch.rows import BadRow, InputRow
from rayflow.batch.spec import Inputs

STRICTER = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json", "y_string_null_escape.json",
            "y_string_unicode_U+10FFFE_nonchar.json", "y_object_escaped_null_in_key.json"}  # fmt: skip
"""Valid JSON that I-JSON is not."""


def rows(path: Path, **options: str) -> list[InputRow]:
    return list(Source(Inputs([str(path)], **options)).rows())


@pytest.mark.parametrize(
    ("name", "number"),
    [("sgd_train_3000.jsonl.gz", 3000), ("taskmaster4_400.jsonl.gz", 400), ("abcd_sample_3.jsonl", 3)],
)
def test_conversations_keep_who_said_what(public_data: Path, name: str, number: int) -> None:
    path = public_data / "conversations" / name
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    read = rows(path)
    assert len(read) == number
    for row, line in zip(read, data.splitlines(), strict=True):
        given = orjson.loads(line)
        assert isinstance(row.value, dict) and row.id == given["conversation_id"]
        said = [(turn["role"], turn["content"]) for turn in given["turns"]]
        assert [(message["role"], message["content"]) for message in row.value["turns"]] == said


def test_naughty_strings_arrive_as_they_are(public_data: Path) -> None:
    path = public_data / "badinput" / "blns.jsonl"
    given = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [row.value for row in rows(path)] == given


def test_each_case_of_the_json_test_suite_is_one_row_and_never_wrong(public_data: Path, tmp_path: Path) -> None:
    cases = gzip.decompress((public_data / "badinput" / "jsontestsuite_parsing.jsonl.gz").read_bytes())
    line_file = tmp_path / "case.jsonl"
    for case in map(orjson.loads, cases.splitlines()):
        data = base64.b64decode(case["base64"])
        if b"\n" in data or not data.strip():
            continue
        line_file.write_bytes(b'{"case": ' + data + b'}\n{"prompt": "after"}\n')
        row, after = rows(line_file)
        assert after.value == {"prompt": "after"} and after.line == 2
        read = not isinstance(row.value, BadRow)
        if case["expect"] == "reject":
            assert not read, case["name"]
        elif case["expect"] == "accept" and case["name"] not in STRICTER:
            assert read, case["name"]


def test_all_of_a_folder_with_damaged_copies_is_right_or_an_error_row(public_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = (public_data / "conversations" / "abcd_sample_3.jsonl").read_bytes()
    packed = (public_data / "conversations" / "taskmaster4_400.jsonl.gz").read_bytes()
    (folder / "a_whole.jsonl").write_bytes(good)
    (folder / "b_cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (folder / "c_utf8.jsonl").write_bytes(b'{"prompt": "\xff"}\n{"prompt": "fine"}\n')
    (folder / "d_long.jsonl").write_bytes(b'{"prompt": "' + b"x" * 50_000_000 + b'"}\n{"prompt": "fine"}\n')
    source = Source(Inputs([str(folder)]))
    found: dict[str, list[str]] = {}
    for row in source.rows():
        found.setdefault(row.source, []).append(row.value.slug if isinstance(row.value, BadRow) else "ok")
    assert found["a_whole.jsonl"] == ["ok"] * 3
    assert found["b_cut.jsonl.gz"][-1] == "invalid-request" and set(found["b_cut.jsonl.gz"][:-1]) == {"ok"}
    assert found["c_utf8.jsonl"] == ["invalid-encoding", "ok"]
    assert found["d_long.jsonl"] == ["body-too-large", "ok"]
