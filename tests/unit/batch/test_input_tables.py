"""CSV, TSV and Parquet as records, and what crafted files cannot do."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayflow.batch.inputs import parquet_process
from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.delimited import read_delimited
from rayflow.batch.inputs.parquet import read_parquet
from rayflow.batch.inputs.places import Place
from rayflow.batch.inputs.records import Blank, Entry, Fault, Record
from rayflow.errors import BodyTooLarge, ValidationError

WANTED, COLUMNS = ("prompt", "turns"), ("prompt", "turns", "id")
BOUNDS = Bounds()


def read(path: Path, data: bytes | None = None, bounds: Bounds = BOUNDS, delimiter: str = ",") -> list[Entry]:
    if data is not None:
        path.write_bytes(data)
    place = Place(str(path), path.name)
    if path.suffix == ".parquet":
        return list(read_parquet(place, WANTED, COLUMNS, bounds))
    return list(read_delimited(place, WANTED, bounds, delimiter))


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_rows_are_records_with_the_place_where_they_begin(tmp_path: Path) -> None:
    entries = read(tmp_path / "in.csv", b'\xef\xbb\xbfid,prompt\r\n1,"two\r\nlines"\r\n\r\n2,"say ""hi"""\r\n')
    assert entries == [
        Record({"id": "1", "prompt": "two\r\nlines"}, 2, 14),
        Blank(4),
        Record({"id": "2", "prompt": 'say "hi"'}, 5, 32),
    ]


def test_tsv_keeps_commas(tmp_path: Path) -> None:
    assert read(tmp_path / "in.tsv", b"id\tprompt\n1\ta, b\n", delimiter="\t") == [
        Record({"id": "1", "prompt": "a, b"}, 2, 10)
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


def test_a_csv_row_over_the_limit_is_a_fault_however_many_lines_it_has(tmp_path: Path) -> None:
    data = b'id,prompt\n1,a\n2,"' + b"line\n" * 40 + b'"\n3,' + b"y" * 150 + b"\n4,d\n"
    bounds = Bounds(row_bytes=120)
    entries = read(tmp_path / "in.csv", data, bounds)
    assert entries[0] == Record({"id": "1", "prompt": "a"}, 2, 10)
    assert isinstance(entries[1], Fault) and (entries[1].slug, entries[1].line) == ("body-too-large", 3)
    assert entries[-1] == Record({"id": "4", "prompt": "d"}, 45, data.index(b"4,d"))
    assert isinstance(entries[-2], Fault) and entries[-2].slug == "body-too-large"


def test_a_table_without_an_input_column_is_refused_and_told_which_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["a"]}), tmp_path / "in.parquet")
    for name, data in (("in.csv", b"question,answer\na,b\n"), ("in.parquet", None)):
        with pytest.raises(ValidationError, match=r"no column prompt or turns; it has 'question'.*--field"):
            read(tmp_path / name, data)


def test_a_table_with_too_many_columns_is_refused(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(50)]
    pq.write_table(pa.table({name: ["x"] for name in names}), tmp_path / "in.parquet")
    for name, data in (("in.csv", ",".join(names).encode()), ("in.parquet", None)):
        with pytest.raises(ValidationError, match="50 columns; at most 20"):
            read(tmp_path / name, data, Bounds(columns=20))


def test_a_truncated_csv_gzip_gives_the_rows_before_the_break(tmp_path: Path) -> None:
    rows = b"".join(b"%d,prompt %d\n" % (n, n * 7919) for n in range(5000))
    *good, last = read(tmp_path / "in.csv.gz", gzip.compress(b"id,prompt\n" + rows)[:-100])
    assert len(good) > 4000 and all(isinstance(entry, Record) for entry in good)
    assert isinstance(last, Fault) and "packed stream breaks off" in last.message


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


def test_all_columns_of_parquet_are_read_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    write_parquet(path, pa.table({"prompt": ["a"], "score": [0.5]}))
    assert list(read_parquet(Place(str(path), ""), WANTED, [], Bounds())) == [Record({"prompt": "a", "score": 0.5})]


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


def three_groups(path: Path, **options: object) -> list[str]:
    prompts = [f"prompt {n}" for n in range(3000)]
    write_parquet(path, pa.table({"prompt": prompts}), row_group_size=1000, use_dictionary=False, **options)
    return prompts


def check_second_group_is_unread(entries: list[Entry], prompts: list[str]) -> str:
    assert len(entries) == 3000
    assert [n for n, entry in enumerate(entries) if isinstance(entry, Fault)] == list(range(1000, 2000))
    assert all(entry == Record({"prompt": prompts[n]}) for n, entry in enumerate(entries) if isinstance(entry, Record))
    return next(entry.message for entry in entries if isinstance(entry, Fault))


def test_a_damaged_row_group_gives_one_fault_per_row_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    prompts = three_groups(path, compression="none")
    data = bytearray(path.read_bytes())
    data[data.index(b"prompt 1500")] ^= 1
    path.write_bytes(bytes(data))
    assert "row group 1" in check_second_group_is_unread(read(path), prompts)


def test_a_row_group_that_takes_too_much_memory_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    big = "x" * (64 * 2**20)
    table = pa.table({"prompt": ["a", big, big, "b"]})
    write_parquet(path, table, row_group_size=1, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 2**20
    entries = read(path, bounds=Bounds(row_bytes=2**20, memory_bytes=96 * 2**20))
    assert (entries[0], entries[3]) == (Record({"prompt": "a"}), Record({"prompt": "b"}))
    assert all(isinstance(entry, Fault) for entry in entries[1:3])


def test_a_row_group_that_kills_its_reader_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.parquet"
    prompts = three_groups(path)
    program = (
        "import os, sys; from rayflow.batch.inputs import parquet_process as p; honest = p._group\n"
        "def group(file, number, *rest):\n"
        "    yield from (honest(file, number, *rest) if number != 1 else os.abort())\n"
        "p._group = group; p.main()\n"
    )
    killer = tmp_path / "killer.py"
    killer.write_text(program)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(parquet_process.__file__).parents[3]}")
    monkeypatch.setattr("rayflow.batch.inputs.parquet.CHILD", "killer")
    assert "ends the process" in check_second_group_is_unread(read(path), prompts)


def test_a_parquet_row_over_the_limit_is_a_fault(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in.parquet", pa.table({"prompt": ["a", "x" * 5000, "b"]}))
    first, long, last = read(tmp_path / "in.parquet", bounds=Bounds(row_bytes=1000))
    assert (first, last) == (Record({"prompt": "a"}), Record({"prompt": "b"}))
    assert isinstance(long, Fault) and long.slug == "body-too-large"


def test_a_file_that_declares_too_many_rows_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in.parquet", pa.table({"prompt": ["a"] * 11}))
    with pytest.raises(BodyTooLarge, match="11 rows; at most 10"):
        read(tmp_path / "in.parquet", bounds=Bounds(rows=10))


def test_a_parquet_text_that_is_not_utf8_is_a_fault(tmp_path: Path) -> None:
    bad = pa.array([b"fine", b"\xff\xfe", b"fine"]).cast(pa.binary()).view(pa.string())
    write_parquet(tmp_path / "in.parquet", pa.table({"prompt": bad}))
    first, second, third = read(tmp_path / "in.parquet")
    assert first == third == Record({"prompt": "fine"})
    assert isinstance(second, Fault) and second.slug == "invalid-encoding"
