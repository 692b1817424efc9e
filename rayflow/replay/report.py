"""What a replay found, asked of its own table in SQL: the named queries of its folder make the report.

A replay's folder is one that `rayflow query --state` takes: its event log, and the queries over `diff.parquet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from rayflow.analytics.database import Log, open_log
from rayflow.analytics.named import named_queries
from rayflow.errors import StorageError

DIFF = "diff.parquet"
VIEW = "replay_diff"
"""What the table is called in the files of the package."""
SHOWN = 20
"""Runs that a report lists."""

Row = dict[str, Any]


class Figures(msgspec.Struct, frozen=True):
    """The columns of `replay_summary`. Of latency, tokens and cost, those runs count of which both are known."""

    runs: int
    replayed: int
    left_out: int
    changed: int
    routing: int
    answers: int
    status: int
    tokens: int
    cost: int
    new_errors: int
    unrecorded: int
    routing_undetermined: int
    answers_undetermined: int
    redacted: int
    history_missing: int
    latency_before_ms: float | None
    latency_after_ms: float | None
    tokens_before: int | None
    tokens_after: int | None
    cost_before_usd: float | None
    cost_after_usd: float | None

    def ratio(self, name: str) -> float | None:
        """After to before, of `latency`, `tokens` or `cost`; None where that is not known, or nothing before."""
        unit = {"latency": "_ms", "tokens": "", "cost": "_usd"}[name]
        before, after = getattr(self, f"{name}_before{unit}"), getattr(self, f"{name}_after{unit}")
        return after / before if before and after is not None else None


class Summary(msgspec.Struct, frozen=True):
    """`routing`, `changes` and `left_out` are the rows of the queries of that name; of `changes` the first ones."""

    workflow: str
    since: str
    until: str
    models: str
    folder: str
    figures: Figures
    routing: list[Row]
    changes: list[Row]
    left_out: list[Row]
    unreadable: dict[str, str] = {}
    """Files of the log that were left out, with the reason."""


def write_queries(out: Path) -> None:
    """Put the named queries into the folder of a replay, over its table."""
    table = f"read_parquet('{str((out / DIFF).absolute()).replace(chr(39), chr(39) * 2)}')"
    folder = out / "queries"
    try:
        folder.mkdir(exist_ok=True)
        for file in (files("rayflow.replay") / "queries").iterdir():
            (folder / file.name).write_text(file.read_text("utf-8").replace(VIEW, table), encoding="utf-8")
    except OSError as problem:
        raise StorageError(f"{folder} cannot be written: {problem.strerror}", path=str(folder)) from problem


def summarise(out: Path, workflow: str, since: str, until: str, models: str) -> Summary:
    """What the table in the folder of a replay says."""
    with open_log(out / "events") as log:
        (figures,) = _rows(log, out, "replay_summary")
        return Summary(
            workflow,
            since,
            until,
            models,
            str(out),
            msgspec.convert(figures, Figures),
            _rows(log, out, "replay_routing"),
            _rows(log, out, "replay_changes", limit=SHOWN),
            _rows(log, out, "replay_left_out"),
        )


def _rows(log: Log, out: Path, name: str, **given: object) -> list[Row]:
    query = named_queries([out / "queries"])[name]
    table = log.query(query.sql, query.bind({key: str(value) for key, value in given.items()}))
    return [{key: _plain(value) for key, value in row.items()} for row in _zoneless(table).to_pylist()]


def _zoneless(table: pa.Table) -> pa.Table:
    """Times in UTC without their zone, which need not be looked up."""
    columns = [each.cast(pa.timestamp("us")) if pa.types.is_timestamp(each.type) else each for each in table.columns]
    return pa.table(columns, names=table.column_names)


def _plain(value: Any) -> Any:
    return f"{value.isoformat(timespec='milliseconds')}Z" if hasattr(value, "isoformat") else value


def to_json(summary: Summary, broken: list[str]) -> str:
    """The summary, and what it fails with as `failed`."""
    told = {**msgspec.to_builtins(summary), "failed": broken}
    return msgspec.json.format(msgspec.json.encode(told)).decode() + "\n"


def to_text(summary: Summary, broken: list[str]) -> str:
    return "\n".join(_text(summary, broken)) + "\n"


def to_markdown(summary: Summary, broken: list[str]) -> str:
    return "\n".join(_markdown(summary, broken)) + "\n"


def _text(summary: Summary, broken: list[str]) -> Iterator[str]:
    yield f"Replay through {summary.workflow}: {summary.since} to {summary.until}, models {summary.models}"
    yield ""
    for name, value in _lines(summary.figures):
        yield f"  {name:<22} {value}"
    for title, rows in _tables(summary):
        yield f"\n{title}"
        yield from (f"  {row}" for row in rows)
    yield ""
    yield from _closing(summary, broken)


def _markdown(summary: Summary, broken: list[str]) -> Iterator[str]:
    yield f"# Replay through {_code(summary.workflow)}"
    yield f"\n{summary.since} to {summary.until}, models {summary.models}\n"
    yield "| figure | value |"
    yield "| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in _lines(summary.figures))
    for title, rows in _tables(summary):
        yield f"\n## {title}\n"
        yield from (f"- {_code(row)}" for row in rows)
    yield ""
    yield from (f"- {line}" for line in _closing(summary, broken))


def _lines(figures: Figures) -> Iterator[tuple[str, str]]:
    yield "runs replayed", f"{figures.replayed} of {figures.runs}"
    yield "changed", str(figures.changed)
    yield "  routing", _count(figures.routing, figures.routing_undetermined)
    yield "  answers", _count(figures.answers, figures.answers_undetermined)
    yield "  status", f"{figures.status} (new errors: {figures.new_errors})"
    if figures.unrecorded:
        yield "asked, not recorded", f"{figures.unrecorded} runs asked an agent whose answer is not recorded"
    if figures.latency_after_ms is not None:
        yield "median latency", _before_after(figures, "latency", "_ms", ".1f", " ms")
    if figures.tokens_after is not None:
        yield "tokens", _before_after(figures, "tokens", "", "d", "")
    if figures.cost_after_usd is not None:
        yield "cost", _before_after(figures, "cost", "_usd", ".6g", " USD")
    if figures.redacted:
        yield "redacted questions", f"{figures.redacted}: what was replaced in them may have mattered to routing"
    if figures.history_missing:
        yield "history incomplete", f"{figures.history_missing} runs: earlier turns are not recorded"


def _tables(summary: Summary) -> Iterator[tuple[str, list[str]]]:
    if summary.routing:
        moves = [f"{_names(row, 'before')} -> {_names(row, 'after')}: {row['runs']}" for row in summary.routing]
        yield "Routing", moves
    if summary.changes:
        first = f" (the first {SHOWN})" if summary.figures.changed > len(summary.changes) else ""
        yield f"Changed runs{first}", [_change(row) for row in summary.changes]
    if summary.left_out:
        yield "Left out", [f"{row['runs']}: {row['reason']}" for row in summary.left_out]


def _change(row: Row) -> str:
    told = f"{row['run_id']}: {', '.join(row['changed'])}"
    if "routing" in row["changed"]:
        told += f" ({_names(row, 'before')} -> {_names(row, 'after')})"
    if "status" in row["changed"]:
        told += f" ({row['status_before']} -> {row['status_after']} {row['error_after'] or ''}".rstrip() + ")"
    if row["similarity"] is not None and "answer" in row["changed"]:
        told += f" (similarity {row['similarity']:.2f})"
    return told


def _closing(summary: Summary, broken: list[str]) -> Iterator[str]:
    yield from (f"WARNING: {path} is left out: {reason}" for path, reason in summary.unreadable.items())
    yield from (f"FAILED: {what}" for what in broken)
    yield f"rayflow query --state {summary.folder} --name replay_changes"


def _count(changed: int, undetermined: int) -> str:
    return f"{changed} ({undetermined} undetermined)" if undetermined else str(changed)


def _before_after(figures: Figures, name: str, unit: str, form: str, shown: str) -> str:
    before, after = getattr(figures, f"{name}_before{unit}"), getattr(figures, f"{name}_after{unit}")
    ratio = figures.ratio(name)
    return f"{before:{form}}{shown} -> {after:{form}}{shown}" + (f" ({ratio:.3g}x)" if ratio is not None else "")


def _names(row: Row, when: str) -> str:
    names = row[f"agents_{when}"]
    return "?" if names is None else ", ".join(names) or "nobody"


def _code(text: str) -> str:
    """Names were given by anybody: nothing of them is Markdown."""
    return f"`{text.replace('`', chr(39))}`"
