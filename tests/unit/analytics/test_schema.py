from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from rayflow.analytics.schema import SCHEMA, SCHEMA_VERSION, VERSION_KEY
from rayflow.events import COLUMNS, EVENTS, Event

DOCS = (Path(__file__).parents[3] / "docs" / "events.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of docs/events.md."""
    section = DOCS.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")
    ]


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


def test_every_field_of_an_event_says_what_it_means() -> None:
    assert tuple(COLUMNS) == Event.__struct_fields__


def test_the_documented_columns_are_those_of_the_code_with_unit_attribute_and_meaning() -> None:
    rows = {name.strip("`"): (meaning, unit, other.strip("`")) for name, _, unit, other, meaning in rows_of("Columns")}
    assert rows.pop("date")[0] == "Day of `ts` in UTC: the partition."
    assert rows == {"ts" if name == "ts_us" else name: column[:3] for name, column in COLUMNS.items()}


def test_the_documented_types_are_those_that_sql_shows() -> None:
    sql = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "timestamp[us, tz=UTC]": "TIMESTAMPTZ"}
    for name, documented, *_ in rows_of("Columns"):
        if name != "`date`":
            kind = SCHEMA.field(name.strip("`")).type
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            assert documented == ("JSON" if kind == pa.json_() else sql[str(plain)])


def test_attributes_are_named_once_and_those_in_seconds_say_so() -> None:
    attributes = [column.attribute for column in COLUMNS.values() if column.attribute]
    assert len(set(attributes)) == len(attributes)
    assert {column.unit for column in COLUMNS.values() if column.factor != 1} == {"milliseconds"}
