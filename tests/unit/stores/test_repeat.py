"""What counts as an append that was made before."""

from __future__ import annotations

import pytest

from rayflow.stores.repeat import repeated


@pytest.mark.parametrize(
    ("written", "roles", "last"),
    [
        ("", "u", None),
        ("u", "u", 1),
        ("u", "a", None),
        ("ua", "u", 1),
        ("ua", "a", 2),
        ("uau", "a", None),
        ("uau", "uau", 3),
        ("uaua", "uau", 3),
        ("uaua", "a", 4),
        ("uatu", "a", None),
        ("u", "uu", None),
        ("u", "", None),
    ],
)
def test_an_append_was_made_when_the_runs_turns_begin_or_end_with_its_roles(
    written: str, roles: str, last: int | None
) -> None:
    assert repeated(list(enumerate(written, 1)), list(roles)) == last
