"""How far a job is: what `status.json` in its folder says, for whoever asks, also from another terminal."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["created", "running", "paused", "interrupted", "cancelled", "failed", "finished"]
"""`paused`: something is refused that no other row would be given either (a quota, a key, a limit of the job); a new
start goes on. `interrupted`: its process was stopped or died. `failed`: the input could not be read to its end, or the
results not be written. `finished`: every row of the selection has its row."""


class Totals(msgspec.Struct, omit_defaults=True):
    """Sums over rows of the results."""

    rows: int = 0
    ok: int = 0
    failed: int = 0
    turns: int = 0
    """Turns that were answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    """Of rows whose model has a price."""
    errors: dict[str, int] = {}
    """Number of failed rows by slug."""

    def add(self, other: Totals, sign: int = 1) -> None:
        """Add, or with -1 take away, what `other` counts."""
        for name in ("rows", "ok", "failed", "turns", "prompt_tokens", "completion_tokens", "cost_usd"):
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))
        for slug, number in other.errors.items():
            if left := self.errors.get(slug, 0) + sign * number:
                self.errors[slug] = left
            else:
                self.errors.pop(slug, None)


class JobStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """`totals` are of all starts; `run`, `elapsed_s` and `rows_per_s` of the last one. Times in microseconds since the
    epoch."""

    job_id: str
    state: State
    reason: str = ""
    """Why it is paused, cancelled or failed, in words; with the slug of the error before a colon."""
    total: int | None = None
    """Rows of the selection, where that is known."""
    totals: Totals = msgspec.field(default_factory=Totals)
    in_flight: int = 0
    window: int = 0
    """How many may be in flight at the moment."""
    blank_lines: int = 0
    starts: int = 0
    run: int = 0
    elapsed_s: float = 0.0
    rows_per_s: float = 0.0
    """Of the last half minute while it runs, of the whole start afterwards."""
    left_s: float | None = None
    """Estimate."""
    created_us: int = 0
    updated_us: int = 0
    finished_us: int | None = None

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()
