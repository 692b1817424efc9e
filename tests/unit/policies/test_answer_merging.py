"""Joining answers: scores mean what they say, and nothing is said twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.errors import ExecutionError
from rayflow.messages import Joined, Part
from rayflow.policies.merging import cut, join, score

QUESTION = "How do I reset the router password?"


def parts(*texts: str) -> list[Part]:
    return [Part(f"agent{i}", text) for i, text in enumerate(texts)]


def merged(*given: Part, question: str = QUESTION, max_chars: int = 1000, attribution: bool = False) -> Joined:
    return join("merge", question, given, max_chars, attribution)


def test_relevance_is_the_share_of_content_words_that_the_answer_mentions() -> None:
    assert score(QUESTION, "Reset the ROUTER, then its password.").relevance == 1
    assert score(QUESTION, "Buy a router.").relevance == pytest.approx(1 / 3)
    assert score(QUESTION, "How do I do the?").relevance == 0


def test_a_question_without_content_words_is_met_by_any_answer() -> None:
    assert score("What is it?", "A tree.").relevance == 1
    assert score("What is it?", "").relevance == 0


def test_completeness_halves_what_is_missing_with_every_forty_words() -> None:
    assert score("x", "word " * 40).completeness == pytest.approx(0.5)
    assert score("x", "word " * 80).completeness == pytest.approx(0.75)
    assert score("x", "").completeness == 0


@given(st.integers(1, 500), st.integers(1, 500))
def test_a_longer_answer_is_never_less_complete(n: int, more: int) -> None:
    assert score("x", "word " * n).completeness <= score("x", "word " * (n + more)).completeness <= 1


@pytest.mark.parametrize(("words", "clarity"), [(1, 1.0), (25, 1.0), (50, 0.5), (75, 0.0), (200, 0.0)])
def test_clarity_falls_with_sentences_longer_than_25_words(words: int, clarity: float) -> None:
    assert score("x", "word " * words + ".").clarity == pytest.approx(clarity)
    assert score("x", ("word " * words + ". ") * 3).clarity == pytest.approx(clarity)


def test_saying_nothing_scores_nothing() -> None:
    assert score(QUESTION, "").total == 0


@given(st.text(max_size=60), st.text(max_size=200))
def test_every_score_lies_between_nothing_and_one(question: str, answer: str) -> None:
    found = score(question, answer)
    assert all(0 <= value <= 1 for value in (found.relevance, found.completeness, found.clarity, found.total))


def test_the_best_response_is_the_one_that_answers_the_question() -> None:
    given = parts("Nice weather today.", "To reset the router password hold the button.", "Ask the router vendor.")
    joined = join("best_response", QUESTION, given, 10, True)
    assert (joined.text, joined.agents) == (given[1].text, ["agent1"])
    assert joined.metadata["scores"]["agent1"] == max(joined.metadata["scores"].values())


def test_the_first_of_equal_answers_is_the_best() -> None:
    assert join("best_response", QUESTION, parts("Same.", "Same."), 10, True).agents == ["agent0"]


def test_confidence_falls_with_every_part_that_failed() -> None:
    good = Part("good", "Reset the router password.")
    alone = merged(good)
    with_failure = merged(good, Part("bad", error="timed out"))
    assert with_failure.confidence == pytest.approx(alone.confidence / 2, abs=1e-4)
    assert with_failure.metadata["failed"] == {"bad": "timed out"}
    assert with_failure.agents == ["good"]


def test_an_empty_answer_counts_as_failed() -> None:
    assert merged(*parts("Yes.", " \n")).metadata["failed"] == {"agent1": "empty answer"}


def test_no_answer_at_all_is_an_error_that_names_every_fault() -> None:
    with pytest.raises(ExecutionError, match=r"a: down; b: empty answer") as caught:
        merged(Part("a", error="down"), Part("b", ""))
    assert caught.value.details["failed"] == {"a": "down", "b": "empty answer"}


def test_agents_names_stand_above_their_parts_where_there_are_several() -> None:
    assert merged(*parts("One.", "Two."), attribution=True).text == "**agent0**: One.\n\n**agent1**: Two."
    assert merged(*parts("One.", "Two.")).text == "One.\n\nTwo."
    assert merged(Part("a", "One."), Part("b", error="x"), attribution=True).text == "One."


def test_a_sentence_that_an_earlier_part_said_is_left_out() -> None:
    joined = merged(*parts("Hold the button. Wait.", "Open the lid. HOLD the button! Then close it."))
    assert joined.text == "Hold the button. Wait.\n\nOpen the lid. Then close it."


def test_an_agent_who_said_nothing_new_is_not_in_the_answer() -> None:
    joined = merged(*parts("Hold the button.", "hold the button"), attribution=True)
    assert joined.agents == ["agent0"]
    assert "agent1" not in joined.text


def test_an_agent_may_repeat_itself() -> None:
    assert merged(*parts("No. No. No.")).text == "No. No. No."


CODE = "Use this:\n\n```python\nfor x in y:\n    print(x)\n```\n\n---\n\n| a | b |\n|---|---|\n| 1 | 2 |"


def test_markdown_of_a_later_part_stays_whole() -> None:
    other = CODE.replace("Use this", "Or that").replace("y:", "z:").replace("1 |", "3 |").replace("a |", "c |")
    assert merged(*parts(CODE, other)).text == f"{CODE}\n\n{other}"


def test_a_list_keeps_its_marks_and_loses_what_was_said() -> None:
    joined = merged(*parts("1. Unplug it.\n2. Wait.", "1. Open it.\n2. Wait.\n3. Go."))
    assert joined.text == "1. Unplug it.\n2. Wait.\n\n1. Open it.\n3. Go."


def test_a_long_answer_is_cut_at_a_sentence() -> None:
    assert cut("One two. Three four. Five six.", 25) == "One two. Three four."
    assert cut("One two. Three four. Five six.", 20) == "One two. Three four."
    assert cut("One two. Three four five six seven.", 30) == "One two. Three four five six s"


def test_agents_beyond_the_cut_are_not_in_the_answer() -> None:
    joined = merged(*parts("One two. Three four.", "Five six."), max_chars=20)
    assert (joined.text, joined.agents) == ("One two. Three four.", ["agent0"])


@given(st.lists(st.text(alphabet="ab1.!? \n`-|", max_size=40), min_size=1, max_size=4), st.integers(1, 100))
def test_a_merged_answer_is_never_too_long_and_never_invents(texts: list[str], limit: int) -> None:
    given = parts(*texts)
    if not any(text.strip() for text in texts):
        return
    joined = merged(*given, max_chars=limit)
    assert len(joined.text) <= limit
    assert set(joined.text.split()) <= {word for text in texts for word in text.split()} | {joined.text.split()[-1]}
