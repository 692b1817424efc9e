"""One output row: what became of one item. Every input item has exactly one."""

from __future__ import annotations

from typing import Literal

import msgspec


class Row(msgspec.Struct, frozen=True):
    """The columns of `results.jsonl` and `results.parquet` (docs/batch.md).

    `answers` and `agents` have one entry for each turn that was answered; an item stops at its first failed turn, so
    they may be shorter than `turns`. `run_ids` also names the run that failed.
    """

    ordinal: int
    id: str
    status: Literal["ok", "error"]
    line: int | None = None
    byte: int | None = None
    error: str | None = None
    """Slug of the error."""
    error_message: str | None = None
    turns: list[str] = []
    answers: list[str] = []
    session_id: str | None = None
    run_ids: list[str] = []
    agents: list[list[str]] = []
    prompt_tokens: int = 0
    completion_tokens: int = 0
    duration_ms: float = 0.0
    attempts: int = 0
    """How often the item was begun, plus how often a turn of it had to be sent again. 0: never run."""
