"""The figures of a job: what `rayflow batch run` prints and `summary.json` keeps."""

from __future__ import annotations

from typing import Literal

import msgspec


class Summary(msgspec.Struct, frozen=True):
    """`items`, `ok`, `failed`, `errors`, `turns` and tokens count the rows of the results, whichever start made them;
    `run`, `elapsed_s` and `items_per_s` are of the last start alone."""

    job_id: str
    input: str
    out: str
    state: Literal["finished", "interrupted"]
    total: int
    """Items of the input, up to --limit."""
    items: int
    ok: int
    failed: int
    blank_lines: int
    turns: int
    """Turns that were answered."""
    prompt_tokens: int
    completion_tokens: int
    errors: dict[str, int]
    """Number of failed items by slug."""
    run: int
    elapsed_s: float
    items_per_s: float

    def covers(self, total: int) -> bool:
        """Whether a start over the first `total` items would find none without a row."""
        return self.state == "finished" and self.total >= total

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()
