"""Whether an append was made before, so that a caller who does not know may simply make it again.

A run appends to its session twice: what was asked, which may be a whole conversation with the assistant's turns in it,
and what was answered. So an append was made before when the run's turns begin with its roles, or end with them.
"""

from __future__ import annotations

from collections.abc import Sequence


def repeated(written: Sequence[tuple[int, str]], roles: Sequence[str]) -> int | None:
    """The last number an append of these roles got earlier, or None when it was not made.

    `written`: number and role of the turns that the session has of this run, oldest first.
    """
    for earlier in (written[: len(roles)], written[-len(roles) :]):
        if roles and [role for _, role in earlier] == list(roles):
            return earlier[-1][0]
    return None
