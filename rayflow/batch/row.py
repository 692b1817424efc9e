"""One output row: what became of one row of the input. Each has exactly one."""

from __future__ import annotations

from typing import Literal

import msgspec


class Row(msgspec.Struct, frozen=True):
    """The columns of `results/part-*.parquet` (docs/batch.md).

    `answers` and `agents` have one entry for each turn that was answered; a row stops at its first failed turn, so they
    may be shorter than `turns`. `run_ids` also names the run that failed.
    """

    ordinal: int
    id: str
    status: Literal["ok", "error"]
    key: str = ""
    """The user's id, or a hash of the row's content and of what decides its answer."""
    source: str = ""
    line: int | None = None
    byte: int | None = None
    error: str | None = None
    """Slug of the error."""
    error_message: str | None = None
    turns: list[str] = []
    answers: list[str] = []
    label: str | None = None
    score: float | None = None
    """What a judge gave."""
    finish_reason: str | None = None
    """Of the last answer, as `model` and `tool_calls`."""
    model: str | None = None
    tool_calls: str | None = None
    """JSON."""
    session_id: str | None = None
    run_ids: list[str] = []
    agents: list[list[str]] = []
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    """None where the model has no price."""
    duration_ms: float = 0.0
    attempts: int = 0
    """How often a turn of it had to be sent again, plus one. 0: never run."""
