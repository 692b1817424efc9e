"""What is to be done to the log but appending to it, and what was done: for those who start it and do not need
Arrow."""

from __future__ import annotations

import msgspec

GRACE_S = 300.0
"""A query must open its files within so many seconds of listing them."""


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to do, as it is told to the process. Times in seconds; 0 for never."""

    root: str
    source: str
    retention_s: float = 0.0
    cold_uri: str = ""
    cold_after_s: float = 0.0
    grace_s: float = GRACE_S


class Report(msgspec.Struct, omit_defaults=True):
    """What was done. `problems`: what went wrong, by file or step; the rest was done all the same."""

    rolled: int = 0
    merged: int = 0
    expired: int = 0
    moved: int = 0
    problems: dict[str, str] = {}
