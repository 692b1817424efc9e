from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayflow.analytics.export import SUFFIXES, encoding_of, write_file, write_stream
from rayflow.errors import StorageError, ValidationError

ANSWER = pa.table({"agent": ["a", "b"], "n": [1, None]})
ROWS = ANSWER.to_pylist()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_what_its_name_says_and_other_programs_read_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"answer{suffix}"
    write_file(ANSWER, encoding_of(path), path)
    match suffix:
        case ".arrow" | ".feather":
            found = pa.ipc.open_file(path).read_all()
        case _:
            relation = f"read_json('{path}')" if suffix == ".ndjson" else f"'{path}'"
            found = duckdb.sql(f"FROM {relation}").to_arrow_table()
    assert found.to_pylist() == ROWS
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_needs_a_format(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"--format.*\.parquet"):
        encoding_of(tmp_path / "answer.xlsx")


def test_an_arrow_stream_needs_no_seeking() -> None:
    stream = io.BytesIO()
    write_stream(ANSWER, "arrow", stream)
    assert pa.ipc.open_stream(stream.getvalue()).read_all() == ANSWER


def test_a_parquet_stream_is_a_parquet_file() -> None:
    stream = io.BytesIO()
    write_stream(ANSWER, "parquet", stream)
    assert pq.read_table(io.BytesIO(stream.getvalue())).to_pylist() == ROWS


def test_two_columns_of_one_name_are_both_written(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    write_file(twice, "parquet", tmp_path / "twice.parquet")
    assert pq.read_table(tmp_path / "twice.parquet").to_pylist() == [{"n": 1, "n_2": 2}]


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answer.json"
    write_file(ANSWER, "json", path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"answer\.json cannot be written: No space left"):
        write_file(ANSWER.slice(0, 1), "json", path)
    assert path.read_bytes() == before
    assert json.loads(before) == ROWS
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        write_file(ANSWER, "csv", tmp_path / "nowhere" / "answer.csv")
