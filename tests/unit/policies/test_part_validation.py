"""What is an answer, and what only looks like one."""

from __future__ import annotations

import pytest

from rayflow.messages import Part
from rayflow.policies.merging import fault, usable

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, I cannot assist with this request.",
    "I am not able to answer this question.",
    "I'm unable to provide legal advice.",
    "As an AI language model, I cannot provide medical advice.",
    "Sorry, I don't have enough information about your account.",
    "I don't know.",
    "Unfortunately, I have no information on that.",
    "We are unable to discuss this.",
]
ANSWERS = [
    "I'm sorry for the delay. Your refund was sent on Monday.",
    "I can't find a charge of $5 on your bill; the only one is $7.",
    "You cannot share a licence.",
    "Error 404 means that the page does not exist.",
    "I know that.",
    "Sorry to hear that! Hold the button for ten seconds.",
    "No.",
    "I cannot help " + "but notice that it is very long indeed, " * 20,
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_no_answer(text: str) -> None:
    assert fault(Part("a", text)) == "refused to answer"


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_regrets_or_denies_something_is_one(text: str) -> None:
    assert fault(Part("a", text)) == ""


@pytest.mark.parametrize(
    "text", ["Error: connection refused", "ValueError: bad", "Traceback (most recent call last):\n x"]
)
def test_an_error_message_is_no_answer(text: str) -> None:
    assert fault(Part("a", text)) == "an error message"


def test_an_answer_that_was_cut_off_is_incomplete() -> None:
    assert fault(Part("a", "It is", finish_reason="length")).startswith("incomplete")
    assert fault(Part("a", "It is", finish_reason="content_filter")).startswith("incomplete")
    assert fault(Part("a", "Run this:\n```\nls")).startswith("incomplete")
    assert fault(Part("a", "Run this:\n```\nls\n```")) == ""


def test_an_error_and_silence_are_no_answers() -> None:
    assert fault(Part("a", error="down")) == "down"
    assert fault(Part("a", " \n")) == "empty answer"


def test_invalid_answers_are_used_only_where_there_are_no_others() -> None:
    refusal, answer, failed = Part("a", "I don't know."), Part("b", "Yes, it is."), Part("c", error="down")
    assert usable([refusal, answer, failed]) == [answer]
    assert usable([refusal, failed]) == [refusal]
    assert usable([failed]) == []
