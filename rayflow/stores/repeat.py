"""Whether an append was made before, so that a caller who does not know may simply make it again.

A run appends to its session twice: what was asked, which may be a whole conversation with the assistant's turns in it,
and what was answered, which is the assistant's alone. So an append was made before when the run's turns begin with its
roles, or end with them. Whoever repeats one wants to know how far the run has come: the answer that it has committed
is told, and stands, whatever the repetition says. What was kept of an answer that was cut is none: the next try appends
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rayflow.errors import KeyReused


class Written(NamedTuple):
    """What the session has of a run: one turn, and the digest of the request that it came with."""

    seq: int
    role: str
    partial: bool = False
    digest: str = ""


class Repeat(NamedTuple):
    """`last_seq`: the last number that the append got when it was made. `answer`: number of the run's answer, or None
    while there is none."""

    last_seq: int
    answer: int | None


def repeated(
    written: Sequence[Written], roles: Sequence[str], expected_seq: int = -1, *, digest: str = "", partial: bool = False
) -> Repeat | None:
    """What an append of these roles came to earlier, or None when it was not made.

    `written`: what the session has of this run, oldest first. `expected_seq`, `digest` and `partial`: the append's own;
    for an answer the first is the end of its question, and what the question quotes of the assistant is no answer.
    Raises `KeyReused` where the run's turns came with another request.
    """
    if digest and any(turn.digest not in ("", digest) for turn in written):
        raise KeyReused()
    if not partial:
        written = [turn for turn in written if not turn.partial]
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
    """The last turn of the assistant from number `since` on that is no part of one."""
    return next((t.seq for t in reversed(written) if t.seq >= since and t.role == "assistant" and not t.partial), None)
