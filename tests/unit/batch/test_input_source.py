"""All files of an input as one sequence of rows."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.ids import IdSet
from rayflow.batch.inputs.places import places, spool
from rayflow.batch.inputs.source import Source
from rayflow.batch.rows import BadRow, InputRow
from rayflow.batch.spec import Inputs
from rayflow.errors import BodyTooLarge, ValidationError


def rows(*paths: Path | str, **options: Any) -> list[InputRow]:
    source = Source(Inputs([str(path) for path in paths], **options))
    found = list(source.rows())
    assert source.count() == len(found)
    assert [row.ordinal for row in found] == list(range(1, len(found) + 1))
    return found


def write(path: Path, *values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(value) + b"\n" for value in values))
    return path


def line(custom_id: str = "a", **body: object) -> dict[str, object]:
    given = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": given}


def test_a_folder_is_one_input_with_its_files_in_order(tmp_path: Path) -> None:
    write(tmp_path / "in" / "b.jsonl", {"id": "b", "prompt": "2"})
    write(tmp_path / "in" / "a" / "z.jsonl", {"id": "a", "prompt": "1"}, {"id": "b", "prompt": "taken"})
    (tmp_path / "in" / "c.csv").write_text("id,prompt\nc,3\n")
    pq.write_table(pa.table({"id": ["d"], "prompt": ["4"]}), tmp_path / "in" / "d.parquet")
    for ignored in (".hidden.jsonl", "_SUCCESS", "readme.txt"):
        (tmp_path / "in" / ignored).write_text("no data")
    found = rows(tmp_path / "in")
    assert [(row.source, row.id) for row in found] == [
        ("a/z.jsonl", "a"), ("a/z.jsonl", "b"), ("b.jsonl", "b"), ("c.csv", "c"), ("d.parquet", "d"),
    ]  # fmt: skip
    assert isinstance(found[2].value, BadRow) and found[2].value.slug == "conflict"


def test_a_glob_and_several_paths_are_one_input_and_no_file_twice(tmp_path: Path) -> None:
    for name in ("a1.jsonl", "a2.jsonl", "b1.jsonl"):
        write(tmp_path / name, {"prompt": name})
    assert [row.source for row in rows(tmp_path / "a*.jsonl", tmp_path / "b1.jsonl", tmp_path / "a1.jsonl")] == [
        "a1.jsonl", "a2.jsonl", "b1.jsonl",
    ]  # fmt: skip
    assert len(rows(f"{tmp_path}/**/*1.jsonl")) == 2


def test_an_address_of_a_file_system_is_read_like_a_path(tmp_path: Path) -> None:
    write(tmp_path / "day" / "a.jsonl", {"prompt": "1"})
    (tmp_path / "day" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "2"}\n'))
    pq.write_table(pa.table({"prompt": ["3"]}), tmp_path / "day" / "c.parquet")
    address = (tmp_path / "day").as_uri()
    assert [row.value for row in rows(address)] == [{"prompt": "1"}, {"prompt": "2"}, {"prompt": "3"}]
    assert [row.source for row in rows(f"{address}/[ab].*")] == ["a.jsonl", "b.jsonl.gz"]
    assert len(rows(f"{address}/a.jsonl")) == 1


@pytest.mark.parametrize(
    "path", ["none.jsonl", "empty", "*.jsonl", "file:///nowhere/at/all", "rows.xlsx", "p.parquet.gz"]
)
def test_what_cannot_be_read_at_all_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.xlsx").touch()
    (tmp_path / "p.parquet.gz").touch()
    with pytest.raises(ValidationError):
        rows(path if "://" in path else tmp_path / path)


def test_a_format_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.txt", {"prompt": "1"})
    with pytest.raises(ValidationError, match="--format"):
        rows(path)
    assert len(rows(path, format="jsonl")) == 1


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'{"prompt": "1"}\n', "stdin.jsonl"),
        (b"", "stdin.jsonl"),
        (gzip.compress(b'{"prompt": "1"}\n'), "stdin.jsonl.gz"),
        (pa.compress(b'{"prompt": "1"}\n', codec="zstd", asbytes=True), "stdin.jsonl.zst"),
    ],
)
def test_standard_input_is_kept_under_a_name_that_tells_its_kind(tmp_path: Path, data: bytes, name: str) -> None:
    path = spool(io.BytesIO(data), tmp_path)
    assert path.name == name and path.read_bytes() == data
    assert len(rows(path)) == (1 if data else 0)
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_identity_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.jsonl", {"prompt": "1"}), write(tmp_path / "x" / "b.jsonl", {"prompt": "1"})
    alone = Source(Inputs([str(one)])).identity()
    assert alone == Source(Inputs([str(two)])).identity()
    both = Source(Inputs([str(one), str(two)])).identity()
    assert both.files == 2 and both.sha256 != alone.sha256 and both.size_bytes == 2 * alone.size_bytes


def test_more_rows_than_allowed_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"prompt": str(n)} for n in range(6)))
    with pytest.raises(BodyTooLarge, match="at most 5 rows"):
        list(Source(Inputs([str(path)], bounds=Bounds(rows=5))).rows())


# --- shapes -----------------------------------------------------------------------------------------------------------

SAID = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


@pytest.mark.parametrize(
    "value",
    [
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        {"messages": [{"role": "Customer", "content": "hi", "turn": 0}, {"role": "bot", "content": "hello"}]},
        {"dialogue": [{"speaker": "user", "text": "hi"}, {"speaker": "assistant", "text": "hello"}]},
        {"messages": [SAID[0], {**SAID[1], "tool_calls": [{"name": "look", "arguments": {}}]}]},
    ],
)
def test_conversations_come_in_one_shape(tmp_path: Path, value: dict[str, object]) -> None:
    [row] = rows(write(tmp_path / "a.jsonl", value))
    assert isinstance(row.value, dict) and row.value["messages"] == SAID


def test_fields_may_have_any_name(tmp_path: Path) -> None:
    value = {"nr": 7, "log": [{"who": "human", "what": "hi"}, {"who": "gpt", "what": "hello"}]}
    options = {"fields": ["log"], "id_fields": ["nr"], "role_field": "who", "content_field": "what"}
    [row] = rows(write(tmp_path / "a.jsonl", value), **options)
    assert row.id == "7" and row.value == {"nr": 7, "log": SAID}


def test_a_line_of_openai_is_a_row_with_its_options_and_its_agent(tmp_path: Path) -> None:
    asked = line("x1", temperature=0.5, model="writer", max_tokens=9)
    [row] = rows(write(tmp_path / "a.jsonl", asked))
    assert (row.id, row.value) == (
        "x1",
        {
            "custom_id": "x1",
            "temperature": 0.5,
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "hi"}],
            "agent": "writer",
        },
    )


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        (line(temperature=9), "temperature"),
        (line(stream=True), "stream"),
        (line(nonsense=1), "nonsense"),
        (line(messages=[{"role": "assistant", "content": "hi"}]), "user"),
        ({**line(), "url": "/v1/embeddings"}, "url"),
        ({**line(), "method": "GET"}, "method"),
    ],
)
def test_a_line_that_the_api_would_refuse_is_a_bad_row(tmp_path: Path, broken: object, word: str) -> None:
    bad, good = rows(write(tmp_path / "a.jsonl", broken, line("b")))
    assert isinstance(bad.value, BadRow) and word in bad.value.message
    assert isinstance(good.value, dict)


def test_ids_are_told_apart_however_many_there_are() -> None:
    ids, rng = IdSet(), random.Random(1)
    names = list({f"id-{rng.randrange(10**9)}" for _ in range(20_000)})
    assert all(ids.add(name) for name in names)
    assert not any(ids.add(name) for name in names)
    assert len(ids) == len(names)


def test_a_path_to_standard_input_must_have_been_kept_before() -> None:
    with pytest.raises(ValidationError, match="kept in a file"):
        places(["-"])
