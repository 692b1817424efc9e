"""What a text names is found, each thing once and as what it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.language.entities import entities


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Write to ann.lee@example.org please", [("email", "ann.lee@example.org")]),
        ("See https://example.org/a?b=1.", [("url", "https://example.org/a?b=1")]),
        ("It arrives on May 3rd, 2026 at 10:30", [("date", "May 3rd, 2026"), ("time", "10:30")]),
        ("due 2026-11-21, or the 3rd of March", [("date", "2026-11-21"), ("date", "3rd of March")]),
        ("it costs $19.99 or 20 euros", [("money", "$19.99"), ("money", "20 euros")]),
        ("order #48213 and part A-4471X", [("id", "#48213"), ("id", "A-4471X")]),
        ("17% off for 38 people", [("number", "17%"), ("number", "38")]),
        ("I met Anna Lee of the Bank of America", [("name", "Anna Lee"), ("name", "Bank of America")]),
        ("My name is Michael. The house is red.", [("name", "Michael")]),
        ("Hello there.\nThanks!", []),
        ("Michael and again Michael said Michael's", [("name", "Michael")]),
    ],
)
def test_entities_are_found(text: str, found: list[tuple[str, str]]) -> None:
    assert [tuple(entity) for entity in entities(text)] == found


@given(st.text(max_size=300))
def test_any_text_may_come_and_entities_stand_in_it(text: str) -> None:
    assert all(entity.text.split()[0] in text for entity in entities(text))
