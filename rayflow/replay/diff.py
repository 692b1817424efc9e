"""What is different about one run, and the table of all of them: `diff.parquet`.

A part of a run is the same, changed, or undetermined: chance decided then or now, or who was asked now has no answer in
the record. What is undetermined is never counted as a change. The time a run takes is different each time, so it is
only compared over all runs (`report`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.config.schema import MonitoringConfig
from rayflow.errors import StorageError
from rayflow.policies.capture import Capture
from rayflow.policies.redaction import redactor
from rayflow.policies.routing.policy import BLIND
from rayflow.replay.recorded import Recorded

NO_RECORDING = "no-recording"
"""In the place of a status: an agent was asked whose answer is not recorded."""

JUDGE = "judge"
"""Who is missing where a model should have judged the answers of several agents: verdicts are not recorded."""

_TEXTS, _WORD = pa.list_(pa.string()), re.compile(r"\w+")
SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("session_id", pa.string()),
        ("tenant", pa.string()),
        ("user_id", pa.string()),
        ("started", pa.timestamp("us", tz="UTC")),
        ("replayed", pa.bool_()),
        ("reason", pa.string()),
        ("input", pa.string()),
        ("history_missing", pa.int64()),
        ("changed", _TEXTS),
        ("undetermined", _TEXTS),
        ("missing", _TEXTS),
        ("status_before", pa.string()),
        ("status_after", pa.string()),
        ("error_before", pa.string()),
        ("error_after", pa.string()),
        ("strategy_before", pa.string()),
        ("strategy_after", pa.string()),
        ("confidence_before", pa.float64()),
        ("confidence_after", pa.float64()),
        ("agents_before", _TEXTS),
        ("agents_after", _TEXTS),
        ("answer_before", pa.string()),
        ("answer_after", pa.string()),
        ("similarity", pa.float64()),
        ("latency_before_ms", pa.float64()),
        ("latency_after_ms", pa.float64()),
        ("prompt_tokens_before", pa.int64()),
        ("prompt_tokens_after", pa.int64()),
        ("completion_tokens_before", pa.int64()),
        ("completion_tokens_after", pa.int64()),
        ("cost_usd_before", pa.float64()),
        ("cost_usd_after", pa.float64()),
    ]
)
"""docs/replay.md says what each column means."""


class Again(NamedTuple):
    """How a run went this time. `agents`: who was chosen; None where it did not come so far. `missing`: who was asked
    without a recorded answer. `pinned`: chance chose the agent then, so it was given this time. None: not known."""

    status: str
    error: str = ""
    agents: list[str] | None = None
    strategy: str = ""
    confidence: float | None = None
    answer: str | None = None
    latency_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    missing: frozenset[str] = frozenset()
    pinned: bool = False
    history_missing: int = 0


class Comparison:
    """`recorded`: models answer from the record, so tokens and cost are compared run by run."""

    def __init__(self, config: MonitoringConfig, *, recorded: bool) -> None:
        hashed = config.model_copy(update={"capture": "hashed"})
        self._kept = Capture(hashed if config.capture == "none" else config)
        self._redactor = redactor(config)
        self._recorded = recorded

    def left_out(self, run: Recorded, reason: str) -> dict[str, Any]:
        return {**_about(run), "replayed": False, "reason": reason, "changed": [], "undetermined": [], "missing": []}

    def row(self, run: Recorded, again: Again) -> dict[str, Any]:
        answer = again.answer
        if answer is not None and run.answer_redacted:
            answer = self._redactor.redact(answer).text
        usage = run.usage
        cost = run.parts_cost_usd if self._recorded else run.cost_usd
        row = {
            **_about(run),
            "replayed": True,
            "history_missing": again.history_missing,
            "missing": sorted(again.missing),
            "status_before": run.status,
            "status_after": NO_RECORDING if again.missing - {JUDGE} else again.status,
            "error_before": run.error or None,
            "error_after": again.error or None,
            "strategy_before": run.strategy or None,
            "strategy_after": (run.strategy if again.pinned else again.strategy) or None,
            "confidence_before": run.confidence,
            "confidence_after": run.confidence if again.pinned else again.confidence,
            "agents_before": run.agents if run.routed else None,
            "agents_after": again.agents,
            "answer_before": self._shown(run.answer),
            "answer_after": self._shown(answer),
            "similarity": None if run.answer is None or answer is None else similarity(run.answer, answer),
            "latency_before_ms": None if run.cached else run.duration_ms,
            "latency_after_ms": again.latency_ms,
            "prompt_tokens_before": usage.prompt_tokens if usage else None,
            "prompt_tokens_after": again.prompt_tokens,
            "completion_tokens_before": usage.completion_tokens if usage else None,
            "completion_tokens_after": again.completion_tokens,
            "cost_usd_before": None if usage is None else cost or 0.0,
            "cost_usd_after": again.cost_usd,
        }
        return {**row, **self._verdict(run, again, answer, row)}

    def _verdict(self, run: Recorded, again: Again, answer: str | None, row: dict[str, Any]) -> dict[str, list[str]]:
        changed: list[str] = []
        undetermined: list[str] = []

        def say(part: str, differs: bool | None) -> None:
            if differs is not False:
                (undetermined if differs is None else changed).append(part)

        say("routing", _routing_differs(run, again))
        if again.missing - {JUDGE}:
            say("answer", None)
            say("status", None)
            return {"changed": changed, "undetermined": undetermined}
        say("status", (run.status, run.error) != (again.status, again.error))
        if again.status == run.status == "ok":
            known = run.answer is not None and answer is not None
            differs = run.answer != answer if known else None
            say("answer", None if differs and JUDGE in again.missing else differs)
        if self._recorded:
            say("tokens", _differs(row, "prompt_tokens") or _differs(row, "completion_tokens"))
            say("cost", _differs(row, "cost_usd"))
        return {"changed": changed, "undetermined": undetermined}

    def _shown(self, text: str | None) -> str | None:
        return None if text is None else self._kept.text(text).content


class DiffFile:
    """Written beside and put into place when all is there. Raises `StorageError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = path.with_name(f".{path.name}.tmp")

    def __enter__(self) -> Self:
        try:
            self._writer = pq.ParquetWriter(self._beside, SCHEMA, compression="zstd", write_page_checksum=True)
        except OSError as problem:
            raise self._failed(problem) from problem
        return self

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        try:
            self._writer.write_table(pa.Table.from_pylist(list(rows), SCHEMA))
        except OSError as problem:
            raise self._failed(problem) from problem

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._writer.close()
            if error is None:
                self._beside.replace(self._path)
        except OSError as problem:
            raise self._failed(problem) from problem
        finally:
            self._beside.unlink(missing_ok=True)

    def _failed(self, problem: OSError) -> StorageError:
        return StorageError(f"{self._path} cannot be written: {problem.strerror or problem}", path=str(self._path))


def similarity(one: str, other: str) -> float:
    """How much two texts have in common, 0 to 1: the share of their words that both have (Dice), order left aside."""
    if one == other:
        return 1.0
    a, b = Counter(_WORD.findall(one.lower())), Counter(_WORD.findall(other.lower()))
    words = a.total() + b.total()
    return 2 * (a & b).total() / words if words else 0.0


def by_chance(run: Recorded) -> bool:
    """Whether the load or the turn chose the agent, and not what was said."""
    return run.strategy in BLIND


def _routing_differs(run: Recorded, again: Again) -> bool | None:
    if again.pinned or not run.routed or again.agents is None:
        return None if run.routed else False
    if by_chance(run) or again.strategy in BLIND:
        return None if run.strategy == again.strategy else True
    return run.agents != again.agents


def _differs(row: dict[str, Any], name: str) -> bool:
    before, after = row[f"{name}_before"], row[f"{name}_after"]
    if before is None or after is None:
        return False
    return bool(abs(before - after) > 1e-9 * max(abs(before), abs(after)))


def _about(run: Recorded) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "session_id": run.session_id or None,
        "tenant": run.tenant or None,
        "user_id": run.user_id or None,
        "started": run.started_us,
        "input": run.source or None,
    }
