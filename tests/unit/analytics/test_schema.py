from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.analytics.schema import SCHEMA, SCHEMA_VERSION, VERSION_KEY, to_table
from rayflow.events import EVENTS, Event

DOCS = (Path(__file__).parents[3] / "docs" / "events.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of docs/events.md."""
    section = DOCS.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("| `")]


def test_every_field_of_an_event_is_a_column_in_the_same_order() -> None:
    fields = ["ts" if name == "ts_us" else name for name in Event.__struct_fields__]
    assert SCHEMA.names == fields


def test_columns_have_the_types_of_their_fields() -> None:
    assert SCHEMA.field("ts").type == pa.timestamp("us", tz="UTC")
    assert SCHEMA.field("run_id").type == pa.string()
    assert SCHEMA.field("agent").type == pa.dictionary(pa.int32(), pa.string())
    assert SCHEMA.field("seq").type == pa.int64()
    assert SCHEMA.field("prompt_tokens").type == pa.int64()
    assert SCHEMA.field("duration_ms").type == pa.float64()
    assert SCHEMA.field("data").type == pa.json_()


def test_the_schema_carries_its_version() -> None:
    assert SCHEMA.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()
    assert f"`rayflow.schema`; it is now {SCHEMA_VERSION}" in DOCS


def test_the_documented_kinds_are_the_kinds_of_the_code() -> None:
    assert {kind.strip("`"): text for kind, text in rows_of("Kinds of events")} == EVENTS


def test_the_documented_columns_are_the_columns_of_the_schema() -> None:
    documented = [row[0].strip("`") for row in rows_of("Columns")]
    assert documented == ["ts", "date", *(name for name in SCHEMA.names if name != "ts")]


def test_what_does_not_apply_is_null() -> None:
    (row,) = to_table([Event("actor.stopped", 5)]).to_pylist()
    assert row == dict.fromkeys(SCHEMA.names) | {
        "kind": "actor.stopped",
        "ts": datetime.fromtimestamp(5e-6, UTC),
        "seq": 0,
        "epoch": 0,
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
