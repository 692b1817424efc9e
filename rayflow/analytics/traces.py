"""Recorded load for the simulator: traces in files, and the runs of rayflow's own log.

A trace is a table with `arrival_s` (seconds from its first request), `input_tokens` and `output_tokens`, and perhaps
`tenant` and `session_id`, as Parquet or as JSONL.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.analytics.database import open_log
from rayflow.errors import NotFound, ValidationError

NEEDED = ("arrival_s", "input_tokens", "output_tokens")
OPTIONAL = ("tenant", "session_id")
_RUNS = """
SELECT
    epoch(started) - min(epoch(started)) OVER () AS arrival_s,
    coalesce(prompt_tokens, 0) AS input_tokens,
    coalesce(completion_tokens, 0) AS output_tokens,
    coalesce(tenant, '') AS tenant,
    coalesce(session_id, '') AS session_id
FROM runs WHERE started IS NOT NULL ORDER BY started, run_id
"""


class Recorded(NamedTuple):
    """One request of a trace."""

    arrival_s: float
    input_tokens: int
    output_tokens: int
    tenant: str = ""
    session_id: str = ""


def read_trace(path: Path) -> list[Recorded]:
    """The requests of a Parquet or JSONL file (also `.jsonl.gz`), in order of arrival.

    Raises `NotFound` where there is no such file, and `ValidationError` that names the row or column that is wrong.
    """
    if not path.is_file():
        raise NotFound(f"no such trace: {path}", kind="trace", id=str(path))
    rows = _parquet(path) if path.suffix == ".parquet" else _lines(path)
    return sorted(_recorded(path, row, values) for row, values in rows)


def read_log(events: Path) -> list[Recorded]:
    """The runs in an event log, in order. Raises what `open_log` and `Log.query` raise."""
    with open_log(events) as log:
        table = log.query(_RUNS)
    return [Recorded(**row) for row in table.to_pylist()]


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        names = pq.read_schema(path).names
        columns = [name for name in (*NEEDED, *OPTIONAL) if name in names]
        table = pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as problem:
        raise ValidationError(f"{path} cannot be read as Parquet: {problem}", param="file") from problem
    for n, values in enumerate(table.to_pylist(), 1):
        yield f"row {n}", values


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for n, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                values = orjson.loads(line)
            except orjson.JSONDecodeError as problem:
                raise ValidationError(f"{path}, line {n}: expected a JSON object: {problem}", param="file") from None
            if not isinstance(values, dict):
                raise ValidationError(f"{path}, line {n}: expected a JSON object, got {line[:40]!r}", param="file")
            yield f"line {n}", values


def _recorded(path: Path, row: str, values: Mapping[str, Any]) -> Recorded:
    for name in NEEDED:
        value = values.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise ValidationError(
                f"{path}, {row}: expected a number of at least 0 in {name}, got {value!r}", param=name
            )
    tenant, session = (str(values.get(name) or "") for name in OPTIONAL)
    arrival_s, prompt, answer = (values[name] for name in NEEDED)
    return Recorded(float(arrival_s), int(prompt), int(answer), tenant, session)
