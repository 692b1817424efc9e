"""A condition in SQL over the fields of a row, such as `language = 'de' and length(prompt) < 2000`.

DuckDB sees a chunk of rows at a time, as JSON, with the fields that the first chunk shows as columns; a row that lacks
one has NULL there, and so has one whose value does not fit the column. It can read nothing but these rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import duckdb
import msgspec
import pyarrow as pa

from rayflow.errors import ValidationError

MEMORY = "256MB"


class Condition:
    """To be used as a context. `where`: what stands behind WHERE."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self._sql = ""
        self._duckdb = duckdb.connect(
            config={"memory_limit": MEMORY, "threads": 1, "enable_external_access": False, "lock_configuration": True}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._duckdb.close()

    def holds(self, values: Sequence[object]) -> Iterator[bool]:
        """Whether it is true, for each value in turn. Raises `ValidationError` where DuckDB does not understand it."""
        encoded = [self._encoder.encode(value).decode() for value in values]
        chunk = pa.table({"place": range(len(values)), "value": pa.array(encoded, pa.string())})
        self._duckdb.register("chunk", chunk)
        try:
            if not self._sql:
                self._sql = self._question()
            found = {place for (place,) in self._duckdb.execute(self._sql).fetchall()}
        except duckdb.Error as error:
            raise ValidationError(f"the condition {self._where!r} cannot be used: {error}", param="where") from error
        return (place in found for place in range(len(values)))

    def _question(self) -> str:
        (structure,) = self._duckdb.execute(
            "select json_group_structure(value::json) from chunk where json_type(value) = 'OBJECT'"
        ).fetchone() or (None,)
        if structure is None:
            raise ValidationError("no row of the input has fields: a condition has nothing to look at", param="where")
        quoted = structure.replace("'", "''")
        fields = f"select place, unnest(from_json(value::json, '{quoted}')) from chunk"
        return f"select place from ({fields}) where ({self._where}\n)"
