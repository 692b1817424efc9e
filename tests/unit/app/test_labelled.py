"""Files of labelled messages: what is read from them, and how a wrong line is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rayflow.app.labelled import Labelled, read
from rayflow.errors import ValidationError


def write(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row_has_a_text_and_a_label_or_is_out_of_scope(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": "x", "to": "a", "oos": False}, {"text": "y", "to": "oos", "oos": True})
    assert read(path, "to") == ([Labelled("x", ("a",)), Labelled("y", ())], False)


def test_a_list_of_labels_is_several_and_an_empty_one_is_nobodys(tmp_path: Path) -> None:
    found = read(write(tmp_path, {"text": "x", "to": ["b", "a", "b"]}, {"text": "y", "to": []}), "to")
    assert found.rows == [Labelled("x", ("b", "a")), Labelled("y", ())]
    assert found.several
    assert found.labels == ["a", "b"]


def test_gzipped_files_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "x", "to": "a"}\n\n'))
    assert read(path, "to").rows == [Labelled("x", ("a",))]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"to": "a"}, r"line 2: expected an object with a text"),
        ({"text": "x", "from": "a"}, r"line 2: expected a label under 'to' \(--label\); the fields are from, text"),
        ({"text": "x", "to": 7}, r"line 2: expected a label"),
        ([1], r"line 2: expected a JSON object"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read(write(tmp_path, {"text": "x", "to": "a"}, row), "to")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"none.jsonl: cannot be read: No such file"):
        read(tmp_path / "none.jsonl", "to")
    with pytest.raises(ValidationError, match="at least one line"):
        read(write(tmp_path), "to")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b'{"text": "x", "to": "a"}')[:-6])
    with pytest.raises(ValidationError, match=r"cut.gz: cannot be read"):
        read(tmp_path / "cut.gz", "to")
