"""From lines of JSON to columns: a row says what its event said, and no event is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.analytics.convert import to_rows
from rayflow.analytics.opened import Batch
from rayflow.analytics.schema import SCHEMA
from rayflow.events import EVENTS, Event, encode_lines


def to_table(events: Sequence[Event]) -> pa.Table:
    return to_rows([Batch("o", 7, len(events), encode_lines(events))] if events else [])


def test_what_does_not_apply_is_null() -> None:
    (row,) = to_table([Event("actor.stopped", 5)]).to_pylist()
    assert row == dict.fromkeys(SCHEMA.names) | {
        "kind": "actor.stopped",
        "ts": datetime.fromtimestamp(5e-6, UTC),
        "seq": 0,
        "epoch": 0,
        "event_id": "o-7",
    }


@pytest.mark.parametrize("text", ["\udc80", "abc\ud800def"])
def test_text_that_is_no_unicode_is_replaced_and_the_rest_of_the_batch_kept(text: str) -> None:
    table = to_table([Event("actor.lost", 1, error_message=text), Event("actor.lost", 2, error_message="näher")])
    assert table["error_message"].to_pylist() == [text.encode(errors="replace").decode(), "näher"]


def test_a_fact_that_json_does_not_know_is_written_as_text() -> None:
    table = to_table([Event("system.stopping", 1, data={"reason": Path("/state"), "rate": float("nan")})])
    assert msgspec.json.decode(table["data"][0].as_py()) == {"reason": "/state", "rate": None}


TEXT = st.text(max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Event,
            kind=st.sampled_from(sorted(EVENTS)),
            ts_us=st.integers(0, 4_000_000_000_000_000),
            agent=TEXT,
            user_id=TEXT,
            duration_ms=st.none() | st.floats(0, 1e12),
            prompt_tokens=st.none() | st.integers(0, 2**62),
            data=st.dictionaries(TEXT, JSON, max_size=3),
        ),
        max_size=8,
    )
)
def test_a_table_says_what_its_events_say(events: list[Event]) -> None:
    table = to_table(events)
    assert table.schema.equals(SCHEMA)
    assert table["ts"].cast(pa.int64()).to_pylist() == [event.ts_us for event in events]
    for name in ("kind", "agent", "user_id"):
        assert table[name].to_pylist() == [getattr(event, name) or None for event in events]
    for name in ("duration_ms", "prompt_tokens"):
        assert table[name].to_pylist() == [getattr(event, name) for event in events]
    decoded = [msgspec.json.decode(text) if text else {} for text in table["data"].to_pylist()]
    assert decoded == [event.data for event in events]


def test_rows_are_numbered_from_the_first_of_their_batch() -> None:
    lines = encode_lines([Event("run.started", 1), Event("run.started", 2)])
    rows = to_rows([Batch("a", 5, 2, lines), Batch("b", 0, 2, lines)])
    assert rows["event_id"].to_pylist() == ["a-5", "a-6", "b-0", "b-1"]


def test_a_value_that_its_column_cannot_take_is_null_and_costs_no_other() -> None:
    wrong = b'{"kind":"a","ts_us":5,"seq":99999999999999999999,"prompt_tokens":"x","agent":"b","data":{"c":1.5}}\n'
    rows = to_rows([Batch("o", 0, 2, wrong + encode_lines([Event("b", 6, seq=3, duration_ms=1.5)]))]).to_pylist()
    assert [rows[0][name] for name in ("kind", "seq", "prompt_tokens", "agent", "data")] == [
        "a", 0, None, "b", '{"c":1.5}',
    ]  # fmt: skip
    assert [rows[1][name] for name in ("kind", "seq", "duration_ms")] == ["b", 3, 1.5]


def test_an_event_that_cannot_be_written_at_all_leaves_a_row_that_says_so() -> None:
    endless: dict[str, object] = {}
    endless["self"] = endless
    rows = to_table([Event("a", 1, data=endless), Event("b", 2)]).to_pylist()
    assert [row["kind"] for row in rows] == ["a", "b"]
    assert rows[0]["data"] == '{"unwritable":true}'


def test_a_line_is_short_because_what_is_default_is_left_out() -> None:
    assert encode_lines([Event("a", 1)]) == b'{"kind":"a","ts_us":1}\n'
