"""What one check of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]
"""fail: serving will not work here. warn: it works, but slower, less safely or not everywhere."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` states a fact, `fix` what to do about it; a finding that is ok needs no fix."""

    check: str
    level: Level
    found: str
    fix: str = ""


def size(amount_bytes: int) -> str:
    """For people: 1.5 GiB, 64 MiB."""
    return f"{amount_bytes / 2**30:.1f} GiB" if amount_bytes >= 2**30 else f"{amount_bytes / 2**20:.0f} MiB"
