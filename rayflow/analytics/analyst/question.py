"""What is asked of an analyst, and what comes back."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Form = Literal["json", "arrow", "csv"]

MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True):
    """What one question may take. Each holds, whatever the SQL does."""

    time_s: float = 10.0
    """Wall-clock seconds from the moment the question is asked."""
    memory_bytes: int = 512 * MIB
    """Of the process that works on it, interpreter and libraries included."""
    rows: int = 10_000
    """Rows of the answer; what is more is cut, and `Answer.truncated` says so."""
    answer_bytes: int = 16 * MIB
    """Of the answer's body; a larger one is refused."""


class Question(msgspec.Struct, frozen=True):
    """`params`: values for `$name`. `tenant`: whose rows may be seen; empty: all rows, also the system's own.

    `trusted`: our own SQL from our own files, over the rows of all tenants and without the sandbox. Never set it for
    SQL that came from outside; what came from outside belongs into `params`.
    """

    sql: str
    params: dict[str, Any] = {}
    tenant: str = ""
    trusted: bool = False
    form: Form = "json"
    limits: Limits = Limits()


class Column(msgspec.Struct, frozen=True):
    """`type`: DuckDB's name of it."""

    name: str
    type: str


class Answer(msgspec.Struct, frozen=True):
    """`body` is what `Question.form` asked for: a JSON array of objects, an Arrow IPC stream, or CSV with a header."""

    columns: list[Column]
    rows: int
    body: bytes
    truncated: bool = False
    """There were more rows than the limit allows."""
    unreadable: dict[str, str] = {}
    """Files of the log that are left out because they are damaged, relative to the log, with the reason."""

    @property
    def incomplete(self) -> bool:
        """Rows are missing from what was asked, because files of the log are damaged."""
        return bool(self.unreadable)

    def records(self) -> list[dict[str, Any]]:
        """The rows of an answer in JSON."""
        found: list[dict[str, Any]] = msgspec.json.decode(self.body)
        return found
