from __future__ import annotations

import pytest
from faults.answers import TOKENS, Part, identity, judge, parts, pieces, prompt

QUESTION = "turn 17 of s-3 for both"


def text(agent: str, question: str = QUESTION) -> str:
    return "".join(pieces(agent, 4, question))


def test_an_answer_has_the_tokens_it_is_said_to_have_and_tells_who_was_asked_what() -> None:
    assert len(pieces("alpha", 4, QUESTION)) == TOKENS
    assert parts(text("alpha")) == [Part("alpha", 4, QUESTION)]


def test_a_prompt_tells_agent_and_edition_among_other_instructions() -> None:
    assert identity(f"Be kind.\n{prompt('beta', 12)}\nMore.") == ("beta", 12)
    assert identity("Be kind.") == ("nobody", 0)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (f"**alpha**: {text('alpha')}\n\n**beta**: {text('beta')}", "whole"),
        (text("beta"), "partial"),
        ("", "wrong"),
        (text("gamma"), "wrong"),
        (text("alpha") + text("alpha"), "wrong"),
        (text("alpha") + text("beta", "turn 18 of s-3 for both"), "wrong"),
        (text("alpha") + text("beta")[:-1], "wrong"),
        (text("alpha") + text("beta").replace("w7 ", ""), "wrong"),
    ],
)
def test_only_the_complete_answers_of_all_agents_are_whole(said: str, verdict: str) -> None:
    assert judge(said, QUESTION, ("alpha", "beta")) == verdict
