"""The four scores of an answer: what each means, when it rises and when it falls."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import ScoreWeights
from rayflow.messages import Part
from rayflow.policies.merging.answers import MAX_PAIRS, Answer, Comparison
from rayflow.policies.merging.markdown import parse, statements
from rayflow.policies.merging.scoring import Score, clarity, completeness, relevance, score

QUESTION = "How do I reset the router password?"
DEFAULT = ScoreWeights()
TEXTS = st.text(alphabet="ab 1.!?\n`-|#:", max_size=120)


def scored(answer: str, question: str = QUESTION, accuracy: float = 0.5, weights: ScoreWeights = DEFAULT) -> Score:
    return score(question, statements(parse(answer)), accuracy, weights)


def relevant(answer: str, question: str = QUESTION) -> float:
    return relevance(question, statements(parse(answer)))


def complete(answer: str) -> float:
    return completeness(statements(parse(answer)))


def clear(answer: str) -> float:
    return clarity(statements(parse(answer)))


def accuracies(*texts: str) -> list[float]:
    """Of each answer, as the others see it."""
    comparison = Comparison([Answer(Part(f"agent{i}", text)) for i, text in enumerate(texts)])
    return [comparison.agreement(i) for i in range(len(texts))]


def test_relevance_is_the_share_of_content_words_that_the_answer_mentions() -> None:
    assert relevant("Reset the ROUTER, then its password.") == 1
    assert relevant("Buy a router.") == pytest.approx(1 / 3)
    assert relevant("How do I do the?") == 0


def test_a_word_in_another_form_is_mentioned() -> None:
    assert relevant("Resetting routers' passwords is easy.") == 1


def test_a_question_without_content_words_is_met_by_any_answer() -> None:
    assert relevant("A tree.", "What is it?") == 1
    assert relevant("", "What is it?") == 0


def test_completeness_halves_what_is_missing_with_every_forty_words() -> None:
    assert complete("word " * 40) == pytest.approx(0.5)
    assert complete("word " * 80) == pytest.approx(0.75)
    assert complete("") == 0


@given(st.integers(1, 500), st.integers(1, 500))
def test_a_longer_answer_is_never_less_complete(n: int, more: int) -> None:
    assert complete("word " * n) <= complete("word " * (n + more)) <= 1


def test_saying_it_twice_makes_no_answer_more_complete() -> None:
    once = "Hold the button for ten seconds."
    assert complete(f"{once} {once}") == complete(once) < complete(f"{once} Then wait.")


@pytest.mark.parametrize(("words", "expected"), [(1, 1.0), (25, 1.0), (50, 0.5), (75, 0.0), (200, 0.0)])
def test_clarity_falls_with_sentences_longer_than_25_words(words: int, expected: float) -> None:
    assert clear("word " * words + ".") == pytest.approx(expected)
    assert clear(("word " * words + ". ") * 3) == pytest.approx(expected)


def test_a_list_is_clearer_than_the_same_in_one_sentence() -> None:
    points = ["go to the settings and look for the entry that says network"] * 5
    assert clear("\n".join(f"- {point}" for point in points)) == 1 > clear(" and ".join(points))


def test_code_is_no_long_sentence() -> None:
    code = "```\n" + "call this and that\n" * 50 + "```"
    assert clear(code) == 1
    assert clear(f"{'word ' * 50}.\n{code}") == pytest.approx(0.5)


@pytest.mark.parametrize("wordless", ["", " \n", "---"])
def test_saying_nothing_scores_nothing_but_for_accuracy(wordless: str) -> None:
    assert scored(wordless, accuracy=0).total == 0


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=2))
def test_every_score_lies_between_nothing_and_one(question: str, answer: str, others: list[str]) -> None:
    [accuracy, *_] = accuracies(answer, *others)
    found = scored(answer, question, accuracy)
    values = (found.relevance, found.completeness, found.accuracy, found.clarity, found.total)
    assert all(0 <= value <= 1 for value in values)


def test_the_total_is_the_mean_weighted_as_configured() -> None:
    only_relevance = ScoreWeights(relevance=1.0, completeness=0.0, accuracy=0.0, clarity=0.0)
    assert scored("Buy a router.", weights=only_relevance).total == pytest.approx(1 / 3)
    doubled = ScoreWeights(relevance=0.8, completeness=0.5, accuracy=0.4, clarity=0.3)
    assert scored("Buy a router.", weights=doubled).total == pytest.approx(scored("Buy a router.").total)


def test_weights_that_are_all_zero_count_alike() -> None:
    found = scored("Buy a router.", weights=ScoreWeights(relevance=0, completeness=0, accuracy=0, clarity=0))
    parts = (found.relevance, found.completeness, found.accuracy, found.clarity)
    assert found.total == pytest.approx(sum(parts) / 4)


def test_accuracy_is_one_where_all_say_the_same_and_none_where_they_exclude_each_other() -> None:
    refund = "Refunds take 14 days."
    assert accuracies(refund, refund) == [1, 1]
    assert accuracies(refund, "Refunds take 30 days.") == [0, 0]
    assert accuracies(refund, "Keep the box until then.") == [0.5, 0.5]


def test_the_one_whom_two_others_contradict_is_the_least_accurate() -> None:
    first, second, third = accuracies("Refunds take 14 days.", "Refunds take 14 days at most.", "Refunds take 30 days.")
    assert third == 0
    assert first == pytest.approx(0.5)
    assert second > third


RISES_AND_FALLS: Sequence[tuple[str, str, str]] = [
    ("The Pro plan costs $20 a month.", "The Pro plan is $20 per month.", "The Pro plan is $25 per month."),
    ("The sale ends on 3 May 2024.", "The sale ends on May 3.", "The sale ends on May 5."),
    (
        "Passwords are encrypted at rest.",
        "All passwords are encrypted at rest.",
        "Passwords are not encrypted at rest.",
    ),
    ("Parking is free for guests.", "Parking is free for guests.", "Parking is paid for guests."),
]


@pytest.mark.parametrize(("answer", "agreeing", "contradicting"), RISES_AND_FALLS)
def test_accuracy_rises_with_agreement_and_falls_with_contradiction(
    answer: str, agreeing: str, contradicting: str
) -> None:
    backed, silent, denied = (accuracies(answer, other)[0] for other in (agreeing, "Call us.", contradicting))
    assert denied < silent < backed


def test_a_number_that_nobody_else_names_is_not_borne_out() -> None:
    assert accuracies("Refunds take 14 days.", "Refunds take some days.")[0] == 0.5


def test_an_answer_that_nobody_can_be_compared_with_is_half_accurate() -> None:
    assert accuracies("Refunds take 14 days.") == [0.5]
    assert accuracies("Yes.", "No.") == [0.5, 0.5]


def test_long_answers_are_compared_no_further_than_the_bound() -> None:
    long = " ".join(f"The part number {i} of set {i} is new." for i in range(3000))
    for count in (2, 3, 16):
        comparison = Comparison([Answer(Part(f"agent{i}", long)) for i in range(count)])
        pairs = count * (count - 1) // 2 * comparison.depth**2
        assert MAX_PAIRS * 0.8 < pairs <= MAX_PAIRS
