"""What of a sentence is worth keeping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.memory import statements, subject


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("My name is Ada.", "name"),
        ("I live in Graz.", "home"),
        ("We have moved to Linz.", "home"),
        ("I am 34 years old.", "age"),
        ("I work as a nurse.", "work"),
        ("My favorite colour is green.", "my favourit colour"),
        ("My favourite colour is blue.", "my favourit colour"),
        ("Please remember that the gate code is 4711.", "my gat cod"),
    ],
)
def test_a_fact_that_can_hold_once_has_a_subject(text: str, about: str) -> None:
    [said] = statements(text)

    assert said.subject == about
    assert said.importance >= 0.8


@pytest.mark.parametrize("text", ["I am allergic to peanuts.", "I prefer short answers.", "I can't eat gluten."])
def test_what_may_hold_several_times_is_important_and_has_no_subject(text: str) -> None:
    [said] = statements(text)

    assert (said.subject, said.importance >= 0.8) == ("", True)


def test_what_is_asked_to_be_remembered_is_the_most_important_and_loses_the_asking() -> None:
    [said] = statements("Please remember that my flight leaves on May 3rd.")

    assert (said.text, said.importance) == ("my flight leaves on May 3rd.", 0.95)


def test_questions_and_thanks_say_nothing() -> None:
    assert statements("What is my name? Thanks! Where do I live?") == []


def test_two_facts_in_one_sentence_are_two() -> None:
    assert [said.subject for said in statements("My name is Ada and I live in Graz.")] == ["name", "home"]


def test_what_was_is_not_what_is() -> None:
    assert subject("My old address is Main Street 1") == ""


def test_a_sentence_about_the_world_weighs_less_than_one_about_the_person() -> None:
    [world], [person] = statements("Curtains hang in windows."), statements("I bought curtains for windows.")

    assert world.importance < 0.3 < person.importance


@given(st.text(max_size=300))
def test_any_text_has_statements_of_importance_from_0_to_1(text: str) -> None:
    for said in statements(text):
        assert said.text.strip()
        assert 0 <= said.importance <= 1
