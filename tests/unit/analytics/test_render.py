from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

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
    text = "".join(render.csv_pieces(table))
    assert text.startswith('text,list,ts\r\n"say ""hi"", now","[""a""]",2025-11-21T12:00:00.250000Z\r\n')
    assert list(csv.reader(io.StringIO(text, newline="")))[2:] == [
        ["two\nlines", "[]", "2025-11-21T12:00:00.250000Z"],
        ["", "", "2025-11-21T12:00:00.250000Z"],
    ]


def test_text_is_aligned_with_numbers_to_the_right() -> None:
    table = pa.table({"agent": ["billing", "tech"], "n": [5, 12345], "p50": [1.5, None]})
    assert render.to_text(table).text == "agent        n  p50\nbilling      5  1.5\ntech     12345\n"


def test_text_cannot_steer_a_terminal() -> None:
    table = pa.table({"session_id": ["a\x1b[2Jb\nc", "wörter 語"]})
    assert render.to_text(table).text == "session_id\na\\x1b[2Jb\\nc\nwörter 語\n"


def test_jsonl_is_an_object_a_line() -> None:
    table = pa.table({"n": [1, 2], "text": ["two\nlines", None]})
    lines = "".join(render.jsonl_pieces(table)).splitlines()
    assert [json.loads(line) for line in lines] == [{"n": 1, "text": "two\nlines"}, {"n": 2, "text": None}]


def test_answers_of_many_rows_come_in_pieces_that_join_to_one_document() -> None:
    table = pa.table({"n": range(25_000)})
    assert json.loads(render.to_json(table))[-1] == {"n": 24_999}
    pieces = list(render.csv_pieces(table))
    assert len(pieces) > 1
    assert len("".join(pieces).splitlines()) == 25_001


def test_a_table_that_fits_is_not_touched() -> None:
    table = pa.table({"agent": ["billing"], "n": [5]})
    assert render.to_text(table, width=10) == render.to_text(table)
    assert render.to_text(table).cut == 0


def test_the_widest_columns_are_cut_to_the_width_and_counted() -> None:
    table = pa.table({"id": ["run_1", "run_2"], "text": ["a" * 50, "short"]})
    assert render.to_text(table, width=20) == ("id     text\nrun_1  aaaaaaaaaaaa…\nrun_2  short\n", 1)


def test_wide_characters_take_the_columns_they_need() -> None:
    table = pa.table({"text": ["日本語", "abc"], "n": [1, 2]})
    assert render.to_text(table).text == "text    n\n日本語  1\nabc     2\n"
    cut = render.to_text(pa.table({"text": ["日本語" * 9]}), width=10)
    assert cut == ("text\n日本語日 …\n", 1)


def test_a_table_with_too_many_columns_is_shown_row_by_row() -> None:
    table = pa.table({f"column_{n}": [n, "x" * 40][n % 2 : n % 2 + 1] for n in range(8)})
    text, cut = render.to_text(table, width=30)
    assert text.splitlines()[:2] == ["column_0  0", "column_1  xxxxxxxxxxxxxxxxxxx…"]
    assert cut == 4


@pytest.mark.parametrize("width", [None, 40])
def test_nothing_that_was_said_reaches_the_terminal_as_a_command(width: int | None) -> None:
    hostile = [
        "\x1b[2J\x1b[H",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\x08\x08\x7f",
        "\u202etxt.exe",
        "\u2028\u2029\u0085",
        "\ufeff\u200b",
        "\x00",
        "\r\n\t\v\f",
    ]
    table = pa.table({"\x1b[31mname": hostile, "list": [[text] for text in hostile]})
    for line in render.to_text(table, width).text.split("\n"):
        assert line.isprintable()
