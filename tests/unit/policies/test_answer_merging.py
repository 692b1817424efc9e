"""Joining answers: nothing is said twice, nothing is invented, and what failed is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import AggregationConfig
from rayflow.errors import ExecutionError
from rayflow.messages import Joined, Part
from rayflow.policies.merging import Merger, cut

QUESTION = "How do I reset the router password?"


def parts(*texts: str) -> list[Part]:
    return [Part(f"agent{i}", text) for i, text in enumerate(texts)]


def best(*given: Part) -> Joined:
    return Merger(AggregationConfig(strategy="best_response", max_merged_length=10)).join(QUESTION, given)


def merged(*given: Part, question: str = QUESTION, max_chars: int = 1000, attribution: bool = False) -> Joined:
    config = AggregationConfig(strategy="merge", max_merged_length=max_chars, source_attribution=attribution)
    return Merger(config).join(question, given)


def test_the_best_response_is_the_one_that_answers_the_question() -> None:
    given = parts("Nice weather today.", "To reset the router password hold the button.", "Ask the router vendor.")
    joined = best(*given)
    assert (joined.text, joined.agents) == (given[1].text, ["agent1"])
    totals = {agent: scores["total"] for agent, scores in joined.metadata["scores"].items()}
    assert totals["agent1"] == max(totals.values())


def test_the_first_of_equal_answers_is_the_best() -> None:
    assert best(*parts("Same.", "Same.")).agents == ["agent0"]


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
