"""The clients' own record of what they asked and how it ended: the ground truth that histories are checked against."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """`ok`: acknowledged, by a complete 200 body or by `[DONE]` after a finish reason. `fail`: an error before the
    first piece of an answer. `stream-error`: an error event after it. `unknown`: the connection broke without an
    answer. `refused`: nobody listened. `pending`: not over yet."""

    OK = "ok"
    FAIL = "fail"
    STREAM_ERROR = "stream-error"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    PENDING = "pending"


INDEFINITE_CODES = frozenset(
    {
        "fabric-failed",
        "peer-lost",
        "unknown-address",
        "frame-invalid",
        "deadline-exceeded",
        "outcome-unknown",
        "conflict",
    }
)
"""Errors that say "the outcome is unknown" (docs/api.md): the turn may exist."""


@dataclass(slots=True)
class Operation:
    """One request of a session's client, with what became of it. Times are monotonic seconds.

    `agents`: who has to answer. `run_id`: X-Request-Id of the answer. `attempts`: 2 where the connection broke and the
    request was repeated with its idempotency key; `first_attempt` is how the first one ended, then.
    """

    session: str
    n: int
    question: str
    agents: tuple[str, ...]
    streamed: bool
    key: str = ""
    sent_s: float = 0.0
    first_byte_s: float | None = None
    ended_s: float = 0.0
    outcome: Outcome = Outcome.PENDING
    status: int = 0
    code: str = ""
    run_id: str = ""
    answer: str = ""
    attempts: int = 0
    first_attempt: Outcome | None = None

    @property
    def acknowledged(self) -> bool:
        return self.outcome is Outcome.OK

    @property
    def definite(self) -> bool:
        """Whether the client was told that there is no answer."""
        failed = self.outcome in (Outcome.FAIL, Outcome.STREAM_ERROR)
        return self.outcome is Outcome.REFUSED or (failed and self.code not in INDEFINITE_CODES)

    @property
    def safe_error(self) -> bool:
        """It failed although no byte of an answer had been sent."""
        return self.outcome in (Outcome.FAIL, Outcome.UNKNOWN, Outcome.REFUSED)

    @property
    def took_s(self) -> float:
        return self.ended_s - self.sent_s


def write_log(operations: Iterable[Operation], file: Path) -> None:
    """One JSON line each."""
    file.write_text("".join(json.dumps(asdict(operation)) + "\n" for operation in operations))
