"""JSON that is not one value per line."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.batch.inputs import documents
from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.documents import read_document
from rayflow.batch.inputs.places import Place
from rayflow.batch.inputs.records import Entry, Fault, Record
from rayflow.errors import InvalidJson, ValidationError

TALK = {"id": 1, "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "[{"}]}


def read(path: Path, data: bytes, row_bytes: int = 2**20) -> list[Entry]:
    path.write_bytes(data)
    return list(read_document(Place(str(path), path.name), Bounds(row_bytes=row_bytes)))


def values(entries: list[Entry]) -> list[Any]:
    return [entry.value if isinstance(entry, Record) else entry for entry in entries]


@pytest.mark.parametrize(
    "wrapped",
    [
        "{}",
        '{{"items": {}}}',
        '{{"conversations": {}, "version": [2, {{}}]}}',
        '{{"about": {{"items": 1}}, "items":{}}}',
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 2**17])
def test_a_document_may_be_an_array_or_hold_one(
    tmp_path: Path, wrapped: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "CHUNK_BYTES", chunk)
    data = wrapped.format('[{"prompt": "a, \\"b\\" ]}"}, 7,\n {"c": [{}]}]').encode()
    expected = [{"prompt": 'a, "b" ]}'}, 7, {"c": [{}]}]
    assert values(read(tmp_path / "in.json", data)) == expected
    assert values(read(tmp_path / "in.json.gz", gzip.compress(data))) == expected


@pytest.mark.parametrize("between", [b"\n", b"", b"\n\n  ", b"\r\n"])
def test_records_may_follow_one_another(tmp_path: Path, between: bytes) -> None:
    records = [{"prompt": "a"}, TALK, {"prompt": "b", "conversations": [], "items": ["x"]}]
    pretty = [orjson.dumps(record, option=orjson.OPT_INDENT_2) for record in records]
    assert values(read(tmp_path / "in.json", between.join(pretty))) == records
    assert values(read(tmp_path / "in.json", b"\xef\xbb\xbf[" + b",".join(pretty) + b"]")) == records


def test_each_record_has_the_place_where_it_begins(tmp_path: Path) -> None:
    data = b'[\n  {"a":1},\n\n  {"a":\n 2}, 3]'
    assert read(tmp_path / "in.json", data) == [
        Record({"a": 1}, 2, 4),
        Record({"a": 2}, 4, data.index(b'{"a":\n')),
        Record(3, 5, data.index(b"3")),
    ]


def test_a_bad_record_spoils_no_other_one(tmp_path: Path) -> None:
    data = b'[{"a":1}, {nope}, , "\xff", {"b":"\xff"}, {"c":1,"c":2}, {"d":4}]'
    first, nope, encoding, in_object, twice, last = read(tmp_path / "in.json", data)
    assert (first, last) == (Record({"a": 1}, 1, 1), Record({"d": 4}, 1, data.index(b'{"d"')))
    slugs = [fault.slug for fault in (nope, encoding, in_object, twice) if isinstance(fault, Fault)]
    assert slugs == ["invalid-json", "invalid-encoding", "invalid-encoding", "invalid-json"]


def test_what_follows_a_bracket_that_does_not_match_is_one_fault(tmp_path: Path) -> None:
    good, bad = read(tmp_path / "in.json", b'[{"a":1}, {"b":2], {"c":3}]')
    assert good == Record({"a": 1}, 1, 1)
    assert isinstance(bad, Fault) and (bad.slug, bad.byte) == ("invalid-json", 10)


@pytest.mark.parametrize("cut", [b'[{"a":1}, {"b', b'[{"a":1},', b'[{"a":1}', b'{"a":1}{"b":[1'])
def test_a_document_that_breaks_off_gives_what_is_whole_and_one_fault(tmp_path: Path, cut: bytes) -> None:
    good, bad = read(tmp_path / "in.json", cut)
    assert values([good]) == [{"a": 1}]
    assert isinstance(bad, Fault) and "breaks off" in bad.message


def test_a_truncated_gzip_gives_the_records_before_the_break(tmp_path: Path) -> None:
    rng = random.Random(3)
    records = [{"prompt": rng.randbytes(30).hex()} for _ in range(3000)]
    packed = gzip.compress(orjson.dumps(records))
    *good, last = read(tmp_path / "in.json.gz", packed[: len(packed) * 2 // 3])
    assert values(good) == records[: len(good)] and len(good) > 1000
    assert isinstance(last, Fault) and "breaks off" in last.message


def test_a_record_over_the_limit_is_a_fault_and_never_kept(tmp_path: Path) -> None:
    data = b'[{"a":1},{"big":"' + b"x" * 3_000_000 + b'"},{"b":2}]'
    first, big, last = read(tmp_path / "in.json", data, row_bytes=1000)
    assert values([first, last]) == [{"a": 1}, {"b": 2}]
    assert isinstance(big, Fault) and big.slug == "body-too-large"


@pytest.mark.parametrize("data", [b'"a"', b"hello", b"1 2 3", b"null"])
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidJson, match=r"in\.json: not a JSON document"):
        read(tmp_path / "in.json", data)


def test_a_packed_document_that_gives_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="nothing in it can be read"):
        read(tmp_path / "in.json.gz", b"no gzip")


@pytest.mark.parametrize("data", [b"", b"[]", b" \n ", b"[ \n ]"])
def test_an_empty_document_has_no_entries(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path / "in.json", data) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=6), st.booleans())
def test_any_array_reads_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], indent: bool
) -> None:
    data = orjson.dumps(records, option=orjson.OPT_INDENT_2 if indent else 0)
    read_back = read(tmp_path_factory.mktemp("any") / "in.json", data)
    expected = [record for record in records if "\\u0000" not in orjson.dumps(record).decode()]
    assert [entry.value for entry in read_back if isinstance(entry, Record)] == expected
    assert len(read_back) == len(records)


@given(st.binary(max_size=60))
def test_any_bytes_end_in_entries_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        read(tmp_path_factory.mktemp("any") / "in.json", b"[" + data)
    except ValidationError as refusal:
        pytest.fail(f"refused: {refusal}")
