"""The log's columns, derived from `Event`.

A field of `Event` becomes a column of the same name, except `ts_us`, which becomes the timestamp `ts`. So a fact is
named once, and the log cannot fall behind the code. Empty strings are stored as NULL: in SQL, what does not apply is
NULL, and `count(agent)` counts agents. Strings that take few values are dictionary-encoded.

The date is not a column of the files: it is their folder, `date=YYYY-MM-DD`, as DuckDB, pandas and Spark expect it.

The version stands in the metadata of every segment. A column more, less or of another type is a new version.
"""

from __future__ import annotations

import types
from typing import Any, get_args

import msgspec
import pyarrow as pa

from rayflow.events import Event

SCHEMA_VERSION = 2
VERSION_KEY = b"rayflow.schema"

_FEW_VALUES = frozenset(
    (
        *("kind", "source", "node", "workflow", "agent", "replica", "provider", "model", "tenant", "channel"),
        *("priority", "status", "error", "finish_reason", "strategy"),
    )
)
_SCALARS: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), dict: pa.json_()}


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
