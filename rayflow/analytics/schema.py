"""The log's columns, derived from `Event`.

A field of `Event` becomes a column of the same name, except `ts_us`, which becomes the timestamp `ts`. So a fact is
named once, and the log cannot fall behind the code. Empty strings are stored as NULL: in SQL, what does not apply is
NULL, and `count(agent)` counts agents. Strings that take few values are dictionary-encoded.

The date is not a column of the files: it is their folder, `date=YYYY-MM-DD`, as DuckDB, pandas and Spark expect it.

The version stands in the metadata of every segment. A column more, less or of another type is a new version.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, get_args

import msgspec
import pyarrow as pa

from rayflow.events import Event

SCHEMA_VERSION = 1
VERSION_KEY = b"rayflow.schema"

_FEW_VALUES = frozenset(
    ("kind", "source", "workflow", "agent", "replica", "model", "tenant", "channel", "status", "error", "strategy")
)
_SCALARS: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), dict: pa.json_()}
# Facts of events may come from anywhere in the process: one that JSON does not know is shown as text, not refused.
_ENCODER = msgspec.json.Encoder(enc_hook=str)


def _plain_type(annotation: Any) -> type:
    """`float` for `float | None`, `dict` for `dict[str, Any]`."""
    if isinstance(annotation, types.UnionType):
        (annotation,) = (option for option in get_args(annotation) if option is not types.NoneType)
    plain: type = getattr(annotation, "__origin__", annotation)
    return plain


def _field(name: str, annotation: Any) -> pa.Field:
    if name == "ts_us":
        return pa.field("ts", pa.timestamp("us", tz="UTC"), nullable=False)
    scalar = _SCALARS[_plain_type(annotation)]
    return pa.field(name, pa.dictionary(pa.int32(), scalar) if name in _FEW_VALUES else scalar)


SCHEMA: pa.Schema = pa.schema(
    [_field(field.name, field.type) for field in msgspec.structs.fields(Event)],
    metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
)


def to_table(events: Sequence[Event]) -> pa.Table:
    """One row per event, in the given order, with the columns of `SCHEMA`."""
    columns = [_column(name, field.type, events) for name, field in zip(Event.__struct_fields__, SCHEMA, strict=True)]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _column(name: str, kind: pa.DataType, events: Sequence[Event]) -> pa.Array:
    values = map(attrgetter(name), events)
    if kind == pa.json_():
        return pa.array([_ENCODER.encode(value) if value else None for value in values], kind)
    if pa.types.is_dictionary(kind):
        return _text(values).dictionary_encode()
    if pa.types.is_string(kind):
        return _text(values)
    return pa.array(list(values), kind)


def _text(values: map[str]) -> pa.Array:
    texts = [value or None for value in values]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        # A lone surrogate (an undecodable file name in an error message, say) must not cost the whole batch.
        return pa.array([text and text.encode(errors="replace") for text in texts], pa.string())
