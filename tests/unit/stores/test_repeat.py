"""What counts as an append that was made before, and what has come of its run since."""

from __future__ import annotations

import pytest

from rayflow.stores.repeat import Repeat, Written, repeated

ROLE = {"u": "user", "a": "assistant", "t": "tool"}


def turns(letters: str) -> list[Written]:
    """One for each letter; in capitals: not complete."""
    return [Written(seq, ROLE[letter.lower()], partial=letter.isupper()) for seq, letter in enumerate(letters, 1)]


@pytest.mark.parametrize(
    ("written", "roles", "last_seq"),
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
    written: str, roles: str, last_seq: int | None
) -> None:
    repeat = repeated(turns(written), [ROLE[letter] for letter in roles])
    assert (repeat and repeat.last_seq) == last_seq


@pytest.mark.parametrize(
    ("written", "roles", "answer"),
    [
        ("u", "u", None),
        ("ua", "u", 2),
        ("ua", "a", 2),
        ("uA", "u", None),
        ("uau", "uau", None),
        ("uaua", "uau", 4),
        ("ua", "ua", None),
        ("uaa", "ua", 3),
        ("uata", "u", 4),
    ],
)
def test_the_answer_is_the_last_complete_turn_of_the_assistant_after_the_question(
    written: str, roles: str, answer: int | None
) -> None:
    repeat = repeated(turns(written), [ROLE[letter] for letter in roles])
    assert repeat is not None
    assert repeat.answer == answer


def test_an_answer_is_looked_for_behind_its_question() -> None:
    assert repeated(turns("ua"), ["assistant"], expected_seq=2) is None
    assert repeated(turns("uaa"), ["assistant"], expected_seq=2) == Repeat(3, 3)
    assert repeated(turns("ua"), ["user"], expected_seq=2) == Repeat(1, 2), "a question may be older than what is known"
