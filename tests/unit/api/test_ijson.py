"""The strict decoder: against JSONTestSuite, against every rule of I-JSON, and against the standard library."""

from __future__ import annotations

import base64
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.api import ijson
from rayflow.errors import InvalidEncoding, InvalidJson

DATA = Path(os.environ.get("RAYFLOW_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
SUITE = DATA / "badinput" / "jsontestsuite_parsing.jsonl.gz"

STRICTER = {
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
    "y_object_escaped_null_in_key.json",
    "y_string_null_escape.json",
}
"""Valid JSON that our rules refuse: duplicate keys and NUL characters."""

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def suite() -> list[dict[str, Any]]:
    if not SUITE.exists():
        pytest.skip(f"JSONTestSuite is not here; set RAYFLOW_TEST_DATA to the folder that holds {SUITE.name}")
    with gzip.open(SUITE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def accepted(body: bytes) -> bool:
    try:
        ijson.loads(body)
    except (InvalidJson, InvalidEncoding):
        return False
    return True


def test_all_of_json_test_suite_is_judged_as_expected() -> None:
    rows = suite()
    assert len(rows) == 318
    verdicts = {row["name"]: accepted(base64.b64decode(row["base64"])) for row in rows}
    wrong = {row["name"] for row in rows if row["expect"] == "reject" and verdicts[row["name"]]}
    refused = {row["name"] for row in rows if row["expect"] == "accept" and not verdicts[row["name"]]}
    assert wrong == set()
    assert refused == STRICTER


@given(VALUES)
def test_what_json_writes_is_read_back_the_same(value: Any) -> None:
    for indent in (None, 1):
        assert ijson.loads(json.dumps(value, indent=indent).encode()) == value
    assert ijson.loads(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    "body",
    [b"NaN", b"[Infinity]", b"-Infinity", b"1e400", b"[-1e400]", b"1" * 5000, b'"\\ud800"', b'{"\\udc00": 1}',
     b'"\\u0000"', b'{"a\\u0000": 1}', b'"a\x00"', b"\xef\xbb\xbf{}", b"", b"   ", b"{", b"[1,]", b"{} {}", b"'a'",
     b'{"a": 1, "a": 1}', b'{"a": [{"b": 1, "c": 2, "b": 3}]}', b'{"\\u0061": 1, "a": 2}',
     b'{"a" : 1, "a"\n: 2, "b": "\\":"}'],
)  # fmt: skip
def test_what_readers_disagree_about_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        ijson.loads(body)


@pytest.mark.parametrize("body", [b'"\xff"', b'{"a": "\xed\xa0\x80"}', b'"\xc0\xaf"', "é".encode("latin-1")])
def test_bytes_that_are_not_utf_8_are_named_as_such(body: bytes) -> None:
    with pytest.raises(InvalidEncoding) as caught:
        ijson.loads(body)
    assert "byte" in caught.value.details


@pytest.mark.parametrize(
    "body", [b'"\\\\u0000"', b'{"a": "x\\":", "b": "\\":"}', b'{"a" :1, "b"\t:"\\":"}', b'[{"a": 1}, {"a": 1}]']
)
def test_what_only_looks_forbidden_is_accepted(body: bytes) -> None:
    assert ijson.loads(body) == json.loads(body)


@pytest.mark.parametrize("levels", [65, 100, 1_000, 1_025, 10_000, 100_000, 1_000_000])
def test_depth_gets_the_same_answer_at_any_depth(levels: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(InvalidJson, match="deeper than 64 levels"):
            ijson.loads(opening * levels + b"1" + closing * levels, max_depth=64)


def test_the_deepest_allowed_body_is_accepted() -> None:
    assert ijson.loads(b"[" * 64 + b"]" * 64, max_depth=64)
    assert ijson.loads(b"[" * 512 + b'{"a":1,"b":"\\":"}' + b"]" * 512, max_depth=513)


def test_a_refusal_says_where_the_fault_is() -> None:
    with pytest.raises(InvalidJson, match="line 2, column 8") as caught:
        ijson.loads(b'{\n  "a": nope}')
    assert caught.value.details == {"line": 2, "column": 8}


def test_a_duplicate_key_is_named() -> None:
    with pytest.raises(InvalidJson, match="'model' stands twice"):
        ijson.loads(b'{"model": "a", "model": "b"}')
