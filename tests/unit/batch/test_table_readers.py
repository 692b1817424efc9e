from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayflow.batch.readers import Blank, Entry, Fault, Record, read_entries
from rayflow.errors import InvalidJson, ValidationError

COLUMNS, KEYS = ("prompt", "turns"), ("id",)


def read(path: Path, data: bytes | None = None) -> list[Entry]:
    if data is not None:
        path.write_bytes(data)
    return list(read_entries(path, COLUMNS, KEYS))


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", ["{}", '{{"items": {}}}', '{{"conversations": {}, "version": 2}}'])
def test_a_document_may_be_an_array_or_hold_one(tmp_path: Path, wrapped: str) -> None:
    data = wrapped.format('[{"prompt": "a"}, 7]').encode()
    assert read(tmp_path / "in.json", data) == [Record({"prompt": "a"}), Record(7)]
    assert read(tmp_path / "in.json.gz", gzip.compress(data)) == [Record({"prompt": "a"}), Record(7)]


def test_a_broken_document_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidJson, match=r"in\.json: not a JSON document: .* at line 2, column 3"):
        read(tmp_path / "in.json", b"[\n  nope\n]")


@pytest.mark.parametrize("data", [b'{"prompt": "a"}', b'"a"', b'{"items": {}}'])
def test_a_document_without_an_array_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValidationError, match="expected an array"):
        read(tmp_path / "in.json", data)


def test_a_truncated_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="gzip stream is damaged"):
        read(tmp_path / "in.json.gz", gzip.compress(orjson.dumps(["x" * 100] * 100))[:-20])


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_rows_are_records_with_the_place_where_they_begin(tmp_path: Path) -> None:
    entries = read(tmp_path / "in.csv", b'\xef\xbb\xbfid,prompt\r\n1,"two\r\nlines"\r\n\r\n2,"say ""hi"""\r\n')
    assert entries == [
        Record({"id": "1", "prompt": "two\r\nlines"}, 2, 14),
        Blank(4),
        Record({"id": "2", "prompt": 'say "hi"'}, 5, 32),
    ]


def test_bad_csv_rows_are_faults_and_the_rest_is_read(tmp_path: Path) -> None:
    data = b'id,prompt\n1\n2,a,b\n3,"x"y\n4,\xff\n5,fine\n6,"never closed\n7,swallowed\n'
    few, many, quoted, encoding, fine, unclosed = read(tmp_path / "in.csv", data)
    assert isinstance(few, Fault) and "1 cells, the header 2" in few.message and few.line == 2
    assert isinstance(many, Fault) and "3 cells" in many.message
    assert isinstance(quoted, Fault) and "not CSV" in quoted.message and quoted.line == 4
    assert isinstance(encoding, Fault) and encoding.slug == "invalid-encoding"
    assert fine == Record({"id": "5", "prompt": "fine"}, 6, data.index(b"5,"))
    assert isinstance(unclosed, Fault) and (unclosed.line, unclosed.byte) == (7, data.index(b"6,"))


def test_a_long_csv_cell_is_read(tmp_path: Path) -> None:
    [entry] = read(tmp_path / "in.csv", b"prompt\n" + b"x" * 1_000_000 + b"\n")
    assert isinstance(entry, Record) and entry.value == {"prompt": "x" * 1_000_000}


def test_a_table_without_an_input_column_is_refused_and_told_which_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["a"]}), tmp_path / "in.parquet")
    for name, data in (("in.csv", b"question,answer\na,b\n"), ("in.parquet", None)):
        with pytest.raises(ValidationError, match=r"no column prompt or turns; it has 'question'.*--field"):
            read(tmp_path / name, data)


def test_a_truncated_csv_gzip_gives_the_rows_before_the_break(tmp_path: Path) -> None:
    rows = b"".join(b"%d,prompt %d\n" % (n, n * 7919) for n in range(5000))
    *good, last = read(tmp_path / "in.csv.gz", gzip.compress(b"id,prompt\n" + rows)[:-100])
    assert len(good) > 4000 and all(isinstance(entry, Record) for entry in good)
    assert isinstance(last, Fault) and "gzip stream breaks off" in last.message


def test_an_empty_csv_has_no_entries(tmp_path: Path) -> None:
    assert read(tmp_path / "in.csv", b"") == []


# --- Parquet ----------------------------------------------------------------------------------------------------------


def write_parquet(path: Path, table: pa.Table, **options: object) -> None:
    pq.write_table(table, path, write_page_checksum=True, **options)


def test_parquet_rows_hold_the_columns_that_matter(tmp_path: Path) -> None:
    turns = [["a", "b"], None, []]
    path = tmp_path / "in.parquet"
    write_parquet(path, pa.table({"id": [1, 2, 3], "turns": turns, "embedding": [[0.5]] * 3}), row_group_size=2)
    assert read(path) == [Record({"id": i, "turns": t}) for i, t in zip((1, 2, 3), turns, strict=True)]


def test_parquet_messages_come_as_objects(tmp_path: Path) -> None:
    messages = [[{"role": "user", "content": "hi"}]]
    write_parquet(tmp_path / "in.parquet", pa.table({"turns": messages}))
    assert read(tmp_path / "in.parquet") == [Record({"turns": messages[0]})]


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "footer"])
def test_an_unreadable_parquet_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "in.parquet"
    write_parquet(path, pa.table({"prompt": ["a"] * 100}))
    data = path.read_bytes()
    broken = {"empty": b"", "text": b"hello", "truncated": data[:-20], "footer": data[:-8] + b"\xff" * 4 + b"PAR1"}
    path.write_bytes(broken[damage])
    with pytest.raises(ValidationError, match=r"in\.parquet: not a readable Parquet file"):
        read(path)


def test_a_damaged_row_group_gives_one_fault_per_row_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    prompts = [f"prompt {n}" for n in range(3000)]
    write_parquet(path, pa.table({"prompt": prompts}), row_group_size=1000, use_dictionary=False, compression="none")
    data = bytearray(path.read_bytes())
    data[data.index(b"prompt 1500")] ^= 1
    path.write_bytes(bytes(data))
    entries = read(path)
    assert len(entries) == 3000
    assert [n for n, entry in enumerate(entries) if isinstance(entry, Fault)] == list(range(1000, 2000))
    assert all(entry == Record({"prompt": prompts[n]}) for n, entry in enumerate(entries) if isinstance(entry, Record))
    assert "row group 1" in next(entry.message for entry in entries if isinstance(entry, Fault))


def test_a_parquet_text_that_is_not_utf8_is_a_fault(tmp_path: Path) -> None:
    bad = pa.array([b"fine", b"\xff\xfe", b"fine"]).cast(pa.binary()).view(pa.string())
    write_parquet(tmp_path / "in.parquet", pa.table({"prompt": bad}))
    first, second, third = read(tmp_path / "in.parquet")
    assert first == third == Record({"prompt": "fine"})
    assert isinstance(second, Fault) and second.slug == "invalid-encoding"
