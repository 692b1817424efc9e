"""JSON Lines: every line is one record or one fault, at its place."""

from __future__ import annotations

import gzip
import random
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.jsonl import read_jsonl
from rayflow.batch.inputs.places import Place
from rayflow.batch.inputs.records import Blank, Entry, Fault, Record
from rayflow.errors import ValidationError

ROW_BYTES = 2**20


def read_bytes(tmp_path: Path, data: bytes, name: str = "in.jsonl") -> list[Entry]:
    path = tmp_path / name
    path.write_bytes(data)
    return list(read_jsonl(Place(str(path), name), Bounds(row_bytes=ROW_BYTES)))


def test_each_line_is_one_entry_at_its_place(tmp_path: Path) -> None:
    entries = read_bytes(tmp_path, b'{"a":1}\n\n{"a":\r\n"x"\n{"b":"\xff"}\n  \n{"c":3}')
    assert [type(entry) for entry in entries] == [Record, Blank, Fault, Record, Fault, Blank, Record]
    places = [(entry.line, entry.byte) for entry in entries if not isinstance(entry, Blank)]
    assert places == [(1, 0), (3, 9), (4, 16), (5, 20), (7, 33)]


def test_a_bad_line_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    data = b'{"a":}\n{"a":"\xc3("}\n{"a":1e400}\n{"a":1,"a":2}\n{"a":"\\u0000"}\n' + b"[" * 65 + b"]" * 65 + b"\n"
    broken, encoding, infinite, twice, nul, deep = read_bytes(tmp_path, data)
    for fault, slug, word in (
        (broken, "invalid-json", "column 6"),
        (encoding, "invalid-encoding", "byte 6"),
        (infinite, "invalid-json", "line"),
        (twice, "invalid-json", "stands twice"),
        (nul, "invalid-json", "NUL"),
        (deep, "invalid-json", "deeper than 64"),
    ):
        assert isinstance(fault, Fault) and fault.slug == slug and word in fault.message


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, char: str) -> None:
    text = char if char > "\x20" else f"\\u{ord(char):04x}"
    first, second = read_bytes(tmp_path, f'{{"a":"x{text}y"}}\n[2]\n'.encode())
    assert first == Record({"a": f"x{char}y"}, 1, 0) and isinstance(second, Record) and second.line == 2


def test_a_byte_order_mark_before_the_first_line_is_ignored(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, b'\xef\xbb\xbf{"a":1}\n{"a":2}\n') == [Record({"a": 1}, 1, 0), Record({"a": 2}, 2, 11)]


@pytest.mark.parametrize("extra", [0, 1, 50 * 2**20])
def test_a_line_over_the_limit_is_a_fault_and_the_next_one_is_read(tmp_path: Path, extra: int) -> None:
    line = b'"' + b"x" * (ROW_BYTES - 2 + extra) + b'"'
    first, second = read_bytes(tmp_path, line + b"\n[1]\n")
    assert isinstance(first, Record) if extra == 0 else isinstance(first, Fault) and first.slug == "body-too-large"
    assert second == Record([1], 2, len(line) + 1)


def test_packed_files_read_like_plain_ones(tmp_path: Path) -> None:
    data = b'{"a":1}\n{"a":2}\n'
    plain = read_bytes(tmp_path, data)
    assert read_bytes(tmp_path, gzip.compress(data), "in.jsonl.gz") == plain
    assert read_bytes(tmp_path, gzip.compress(data[:8]) + gzip.compress(data[8:]), "two.jsonl.gz") == plain
    assert read_bytes(tmp_path, pa.compress(data, codec="zstd", asbytes=True), "in.jsonl.zst") == plain


def test_an_empty_file_has_no_entries(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, b"") == []


def some_lines() -> list[bytes]:
    rng = random.Random(7)
    return [b'{"prompt":"%s"}\n' % rng.randbytes(40).hex().encode() for _ in range(2000)]


def test_a_truncated_gzip_gives_every_whole_line_before_the_break_and_names_the_byte(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(some_lines()))
    rng = random.Random(8)
    for cut in [len(packed) - 1, len(packed) - 9, *rng.sample(range(2000, len(packed) - 9), 20)]:
        readable = zlib.decompressobj(wbits=31).decompress(packed[:cut])
        *good, last = read_bytes(tmp_path, packed[:cut], "cut.jsonl.gz")
        assert len(good) == readable.count(b"\n")
        assert all(isinstance(entry, Record) for entry in good)
        assert isinstance(last, Fault) and last.byte == readable.rfind(b"\n") + 1
        assert f"byte {last.byte}" in last.message


@pytest.mark.parametrize("end", ["cut", "flipped"])
def test_a_damaged_zstd_gives_right_lines_and_then_one_fault(tmp_path: Path, end: str) -> None:
    lines = some_lines() * 4
    packed = bytearray(pa.compress(b"".join(lines), codec="zstd", asbytes=True))
    if end == "cut":
        del packed[len(packed) * 3 // 4 :]
    else:
        packed[len(packed) * 3 // 4] ^= 0x55
        del packed[len(packed) * 7 // 8 :]
    *good, last = read_bytes(tmp_path, bytes(packed), "cut.jsonl.zst")
    assert good and isinstance(last, Fault) and "breaks off" in last.message
    assert last.line == len(good) + 1


def test_a_damaged_gzip_ends_with_a_fault_instead_of_wrong_lines(tmp_path: Path) -> None:
    lines = b"".join(b'{"n":%d}\n' % n for n in range(20_000))
    packed = bytearray(gzip.compress(lines))
    packed[-5] ^= 1  # the checksum of the whole
    *good, last = read_bytes(tmp_path, bytes(packed), "bad.jsonl.gz")
    assert len(good) == 20_000
    assert isinstance(last, Fault) and "CRC" in last.message


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.jsonl.gz", b"not gzip at all"),
        ("in.jsonl.gz", gzip.compress(b'{"a":1}\n', mtime=0)[:12]),
        ("in.jsonl.gz", gzip.compress(b'{"a":1}\n', mtime=0)[:4]),
        ("in.jsonl.zst", b"not zstd at all"),
        ("in.jsonl.zst", pa.compress(b'{"a":1}\n' * 9, codec="zstd", asbytes=True)[:12]),
    ],
)
def test_a_packed_file_that_gives_nothing_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(ValidationError, match=r"in\.jsonl\..*nothing in it can be read"):
        read_bytes(tmp_path, data, name)


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ")), max_size=20))
def test_any_bytes_give_exactly_one_entry_per_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    entries = read_bytes(tmp_path_factory.mktemp("any"), b"".join(line + b"\n" for line in lines))
    assert [entry.line for entry in entries] == list(range(1, len(lines) + 1))
