from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa

from rayflow.analytics import render

MOMENT = datetime(2025, 11, 21, 12, 0, 0, 250_000, UTC)


def test_json_is_one_array_of_objects_with_utc_timestamps() -> None:
    table = pa.table({"ts": [MOMENT, None], "n": [1, 2], "agents": [["a", "b"], []]})
    assert json.loads(render.to_json(table)) == [
        {"ts": "2025-11-21T12:00:00.250000Z", "n": 1, "agents": ["a", "b"]},
        {"ts": None, "n": 2, "agents": []},
    ]


def test_json_of_no_rows_is_an_empty_array() -> None:
    assert json.loads(render.to_json(pa.table({"n": pa.array([], pa.int64())}))) == []


def test_json_keeps_numbers_numbers_and_has_null_for_what_is_none() -> None:
    table = pa.table(
        {"sum": [Decimal(12)], "mean": [Decimal("0.25")], "nan": [float("nan")], "huge": [Decimal(10**30)]}
    )
    assert json.loads(render.to_json(table)) == [{"sum": 12, "mean": 0.25, "nan": None, "huge": 1e30}]


def test_json_keeps_both_of_two_columns_with_one_name() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["n", "n", "n"])
    assert json.loads(render.to_json(table)) == [{"n": 1, "n_2": 2, "n_3": 3}]


def test_nanoseconds_blobs_and_intervals_have_a_text() -> None:
    nanoseconds = pa.array([1_763_726_400_000_000_123], pa.timestamp("ns"))
    table = pa.table({"ts": nanoseconds, "blob": [b"\x00\xff"], "span": [timedelta(seconds=90)]})
    assert json.loads(render.to_json(table)) == [{"ts": "2025-11-21T12:00:00Z", "blob": "AP8=", "span": "0:01:30"}]


def test_csv_quotes_as_rfc_4180_says() -> None:
    table = pa.table({"text": ['say "hi", now', "two\nlines", None], "list": [["a"], [], None], "ts": [MOMENT] * 3})
    text = render.to_csv(table)
    assert text.startswith('text,list,ts\r\n"say ""hi"", now","[""a""]",2025-11-21T12:00:00.250000Z\r\n')
    assert list(csv.reader(io.StringIO(text, newline="")))[2:] == [
        ["two\nlines", "[]", "2025-11-21T12:00:00.250000Z"],
        ["", "", "2025-11-21T12:00:00.250000Z"],
    ]


def test_text_is_aligned_with_numbers_to_the_right() -> None:
    table = pa.table({"agent": ["billing", "tech"], "n": [5, 12345], "p50": [1.5, None]})
    assert render.to_text(table) == "agent        n  p50\nbilling      5  1.5\ntech     12345\n"


def test_text_cannot_steer_a_terminal() -> None:
    table = pa.table({"session_id": ["a\x1b[2Jb\nc", "wörter 語"]})
    assert render.to_text(table) == "session_id\na\\x1b[2Jb\\nc\nwörter 語\n"
