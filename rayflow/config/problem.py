"""One thing that is wrong with a configuration, as facts first and as a sentence second.

All problems of a configuration are shown at once, so that a file is repaired in one round and not in as many rounds as
it has mistakes. `ConfigurationError.details["problems"]` carries them as plain dicts for programs, its message as one
line each for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rayflow.errors import ConfigurationError

MOST_SHOWN = 50
"""A file that is wrong from end to end is not explained from end to end."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """`key` is a dotted path, empty for the file as a whole. `file` may also name a variable or a flag, which have no
    `line` and `column` (both counted from 1). `expected`, `got` and `hint` never hold a secret."""

    key: str
    expected: str
    got: str
    hint: str = ""
    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        prefix = "".join(f"{part}: " for part in (place, self.key) if part)
        return f"{prefix}expected {self.expected}, got {self.got}" + (f"; {self.hint}" if self.hint else "")


def invalid(problems: Sequence[Problem]) -> ConfigurationError:
    """The one error that reports them all; at least one is needed."""
    shown = [str(problem) for problem in problems[:MOST_SHOWN]]
    if len(problems) > MOST_SHOWN:
        shown.append(f"... and {len(problems) - MOST_SHOWN} more")
    message = (
        shown[0] if len(problems) == 1 else "\n  ".join([f"{len(problems)} problems in the configuration", *shown])
    )
    return ConfigurationError(message, problems=[dataclasses.asdict(problem) for problem in problems[:MOST_SHOWN]])
