from __future__ import annotations

import gzip
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.batch.readers import Blank, Entry, Fault, Record, read_entries
from rayflow.batch.readers.lines import MAX_LINE_BYTES
from rayflow.errors import ValidationError


def read(path: Path) -> list[Entry]:
    return list(read_entries(path, ("prompt",), ("id",)))


def read_bytes(tmp_path: Path, data: bytes, name: str = "in.jsonl") -> list[Entry]:
    path = tmp_path / name
    path.write_bytes(data)
    return read(path)


def test_each_line_is_one_entry_at_its_place(tmp_path: Path) -> None:
    entries = read_bytes(tmp_path, b'{"a":1}\n\n{"a":\r\n"x"\n{"b":"\xff"}\n  \n{"c":3}')
    assert [type(entry) for entry in entries] == [Record, Blank, Fault, Record, Fault, Blank, Record]
    places = [(entry.line, entry.byte) for entry in entries if not isinstance(entry, Blank)]
    assert places == [(1, 0), (3, 9), (4, 16), (5, 20), (7, 33)]


def test_a_bad_line_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    broken, encoding, infinite = read_bytes(tmp_path, b'{"a":}\n{"a":"\xc3("}\n{"a":1e400}\n')
    assert isinstance(broken, Fault) and broken.slug == "invalid-json" and "column 6" in broken.message
    assert isinstance(encoding, Fault) and encoding.slug == "invalid-encoding" and "byte 6" in encoding.message
    assert isinstance(infinite, Fault) and infinite.slug == "invalid-json"


def test_a_byte_order_mark_before_the_first_line_is_ignored(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, b'\xef\xbb\xbf{"a":1}\n{"a":2}\n') == [Record({"a": 1}, 1, 0), Record({"a": 2}, 2, 11)]


@pytest.mark.parametrize("extra", [0, 1, 100_000])
def test_a_line_over_the_limit_is_a_fault_and_the_next_one_is_read(tmp_path: Path, extra: int) -> None:
    line = b'"' + b"x" * (MAX_LINE_BYTES - 2 + extra) + b'"'
    first, second = read_bytes(tmp_path, line + b"\n[1]\n")
    assert isinstance(first, Record) if extra == 0 else isinstance(first, Fault) and first.slug == "body-too-large"
    assert second == Record([1], 2, len(line) + 1)


def test_ndjson_and_gzip_read_like_plain_jsonl(tmp_path: Path) -> None:
    data = b'{"a":1}\n{"a":2}\n'
    plain = read_bytes(tmp_path, data)
    assert read_bytes(tmp_path, data, "in.ndjson") == plain
    assert read_bytes(tmp_path, gzip.compress(data), "in.jsonl.gz") == plain
    assert read_bytes(tmp_path, gzip.compress(data[:8]) + gzip.compress(data[8:]), "two.jsonl.gz") == plain


def test_an_empty_file_has_no_entries(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, b"") == []


def test_a_truncated_gzip_gives_every_whole_line_before_the_break_and_names_the_byte(tmp_path: Path) -> None:
    rng = random.Random(7)
    lines = [b'{"prompt":"%s"}\n' % rng.randbytes(40).hex().encode() for _ in range(2000)]
    packed = gzip.compress(b"".join(lines))
    for cut in [len(packed) - 1, len(packed) - 9, *rng.sample(range(2000, len(packed) - 9), 20)]:
        readable = zlib.decompressobj(wbits=31).decompress(packed[:cut])
        *good, last = read_bytes(tmp_path, packed[:cut], "cut.jsonl.gz")
        assert len(good) == readable.count(b"\n")
        assert all(isinstance(entry, Record) for entry in good)
        assert isinstance(last, Fault) and last.byte == readable.rfind(b"\n") + 1
        assert f"byte {last.byte}" in last.message


def test_a_damaged_gzip_ends_with_a_fault_instead_of_wrong_lines(tmp_path: Path) -> None:
    lines = b"".join(b'{"n":%d}\n' % n for n in range(20_000))
    packed = bytearray(gzip.compress(lines))
    packed[-5] ^= 1  # the checksum of the whole
    *good, last = read_bytes(tmp_path, bytes(packed), "bad.jsonl.gz")
    assert len(good) == 20_000
    assert isinstance(last, Fault) and "CRC" in last.message


@pytest.mark.parametrize(
    "data", [b"not gzip at all", gzip.compress(b'{"a":1}\n', mtime=0)[:12], gzip.compress(b'{"a":1}\n', mtime=0)[:4]]
)
def test_a_gzip_that_gives_nothing_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValidationError, match=r"in\.jsonl\.gz.*nothing in it can be read"):
        read_bytes(tmp_path, data, "in.jsonl.gz")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="No such file"):
        read(tmp_path / "missing.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ValidationError, match="directory"):
        read(tmp_path / "folder.jsonl")


def test_an_unknown_kind_of_file_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"\.jsonl, \.ndjson, \.json, \.csv, \.parquet"):
        read(tmp_path / "items.xlsx")


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ")), max_size=20))
def test_any_bytes_give_exactly_one_entry_per_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    entries = read_bytes(tmp_path_factory.mktemp("any"), b"".join(line + b"\n" for line in lines))
    assert [entry.line for entry in entries] == list(range(1, len(lines) + 1))
