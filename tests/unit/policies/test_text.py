"""A phrase occurs in a message as whole words, however they are written."""

from __future__ import annotations

import pytest

from rayflow.policies.text import padded, words


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("refund", "I want a REFUND!"),
        ("C++", "Is c++ faster?"),
        ("C#", "I write C#."),
        ("billing", "#billing question"),
        ("two words", "these two\n words"),
        ("straße", "die STRASSE"),
        ("café", "the cafe\u0301 is closed"),
    ],
)
def test_a_phrase_is_found(phrase: str, message: str) -> None:
    assert padded(phrase) in padded(message)


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("C", "C++ and C#"),
        ("C++", "C++17"),
        ("fund", "a refund"),
        ("two words", "two other words"),
        ("two words", "words two"),
    ],
)
def test_a_phrase_is_not_found(phrase: str, message: str) -> None:
    assert padded(phrase) not in padded(message)


def test_punctuation_alone_is_no_word() -> None:
    assert words("--- # + ?! 🎉") == []
