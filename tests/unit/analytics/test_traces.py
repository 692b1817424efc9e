from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayflow.analytics.segments import SegmentWriter
from rayflow.analytics.traces import Recorded, read_log, read_trace
from rayflow.errors import NotFound, ValidationError
from rayflow.events import Event

ROWS: list[dict[str, Any]] = [
    {"arrival_s": 1.5, "input_tokens": 20, "output_tokens": 2, "tenant": "a", "session_id": "s1"},
    {"arrival_s": 0.0, "input_tokens": 10, "output_tokens": 1},
]
EXPECTED = [Recorded(0.0, 10, 1), Recorded(1.5, 20, 2, "a", "s1")]


def test_jsonl_is_read_in_order_of_arrival(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert read_trace(path) == EXPECTED
    packed = tmp_path / "trace.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_trace(packed) == EXPECTED


def test_parquet_is_read_with_or_without_tenants(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS, schema=None), path)
    assert read_trace(path) == EXPECTED
    pq.write_table(pa.table({"arrival_s": [0.0], "input_tokens": [1], "output_tokens": [2], "hash": ["x"]}), path)
    assert read_trace(path) == [Recorded(0.0, 1, 2)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"arrival_s": 1}', "line 1: expected a number of at least 0 in input_tokens, got None"),
        (
            '\n{"arrival_s": -1, "input_tokens": 1, "output_tokens": 1}',
            "line 2: expected a number of at least 0 in arrival_s",
        ),
        ("[1]", "line 1: expected a JSON object, got b'[1]'"),
        ("{", "line 1: expected a JSON object"),
    ],
)
def test_what_is_no_request_is_named_by_its_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    with pytest.raises(ValidationError) as raised:
        read_trace(path)
    assert said in str(raised.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such trace"):
        read_trace(tmp_path / "none.parquet")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValidationError, match="cannot be read as Parquet"):
        read_trace(broken)


def test_the_runs_of_the_log_are_a_trace(tmp_path: Path) -> None:
    def run(name: str, at_s: float, tokens: int) -> list[Event]:
        us, about = int(at_s * 1e6), {"run_id": name, "session_id": f"session-{name}", "tenant": "gold"}
        return [
            Event("run.started", us, **about),
            Event("run.finished", us + 5, **about, status="ok", prompt_tokens=tokens, completion_tokens=1),
        ]

    SegmentWriter(tmp_path, "eventlog/0").write([*run("b", 1002.5, 7), *run("a", 1000.0, 3)])
    assert read_log(tmp_path) == [
        Recorded(0.0, 3, 1, "gold", "session-a"),
        Recorded(2.5, 7, 1, "gold", "session-b"),
    ]
