"""Whether an append was made before, so that a caller who does not know may simply make it again.

A run appends to its session twice: what was asked, which may be a whole conversation with the assistant's turns in it,
and what was answered, which is the assistant's alone. So an append was made before when the run's turns begin with its
roles, or end with them. Whoever repeats one wants to know how far the run has come: the answer that it has committed
is told, and stands, whatever the repetition says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Written(NamedTuple):
    """What the session has of a run: number, role and status of one turn."""

    seq: int
    role: str
    status: str = "complete"


class Repeat(NamedTuple):
    """`last_seq`: the last number that the append got when it was made. `answer`: number of the run's answer, or None
    while there is none."""

    last_seq: int
    answer: int | None


def repeated(written: Sequence[Written], roles: Sequence[str], expected_seq: int = -1) -> Repeat | None:
    """What an append of these roles came to earlier, or None when it was not made.

    `written`: what the session has of this run, oldest first. `expected_seq`: the append's own; for an answer it is the
    end of its question, and what the question quotes of the assistant is no answer.
    """
    answers = all(role == "assistant" for role in roles)
    if answers:
        written = [turn for turn in written if turn.seq > expected_seq]
    for earlier in (written[: len(roles)], written[-len(roles) :]):
        if roles and [turn.role for turn in earlier] == list(roles):
            last_seq = earlier[-1].seq
            since = earlier[0].seq if answers else last_seq + 1
            return Repeat(last_seq, _answer(written, since))
    return None


def _answer(written: Sequence[Written], since: int) -> int | None:
    """The last complete turn of the assistant from number `since` on."""
    found = (t.seq for t in reversed(written) if t.seq >= since and (t.role, t.status) == ("assistant", "complete"))
    return next(found, None)
